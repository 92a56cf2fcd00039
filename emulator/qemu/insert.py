#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Lays the lab box's overlay over an unpacked QEMU 10.0 source tree.

    insert.py TREE

Copies the files of COPIES into the tree and puts the texts of INSERTIONS into
QEMU's own files. A place is found by an identifier alone, so that no line of
QEMU stands here; a place that is not found exactly once is an error.

May be run again on the same tree after a change of the overlay: the originals
are kept in TREE/.labbox, and only files whose content changes are written, so
that ninja rebuilds little.
"""

import pathlib
import re
import shutil
import sys

# Our file, and where it goes in the tree.
COPIES = {
    "dsa.c": "hw/i386/dsa.c",
    "dsa_model.h": "hw/i386/dsa_model.h",
    "lab_vtd.h": "hw/i386/lab_vtd.h",
    "lab_vtd.c.inc": "hw/i386/lab_vtd.c.inc",
    "lab_helper.h.inc": "target/i386/lab_helper.h.inc",
    "lab_store64.h": "target/i386/lab_store64.h",
    "lab_store64.c": "target/i386/tcg/system/lab_store64.c",
    "lab_store64.c.inc": "target/i386/tcg/lab_store64.c.inc",
    "labbox.mak": "configs/devices/x86_64-softmmu/labbox.mak",
}


# Places. Each is a pattern, and whether the text goes before or after the match.

def after_include(name):
    """The line after the inclusion of header `name`."""
    return rf'^[ \t]*#[ \t]*include[ \t]+[<"]{re.escape(name)}[>"].*$', "after"


def function(name):
    """The start of the body of function `name`."""
    return rf"^[A-Za-z_][^;{{}}()#]*\b{name}\([^;{{}}]*\)\s*\{{", "after"


def before_function(name):
    """The line before the definition of function `name`."""
    return rf"^[A-Za-z_][^;{{}}()#]*\b{name}\([^;{{}}]*\)\s*\{{", "before"


def struct(name):
    """The start of the member list of struct `name`."""
    return rf"^struct {name}\s*\{{", "after"


def member(name):
    """The line after the member `name` of a struct."""
    return rf"^[ \t].*\b{name};$", "after"


def table(name):
    """The start of the initialiser of array `name`."""
    return rf"^[^;\n]*\b{name}(\[[^\]\n]*\])*\s*=\s*\{{", "after"


def before_table(name):
    """The line before the definition of array `name`."""
    return rf"^[^;\n]*\b{name}(\[[^\]\n]*\])*\s*=\s*\{{", "before"


def case(name):
    """The start of the branch of a switch for `name`."""
    return rf"^[ \t]*case {name}:", "after"


def variable(name):
    """The line after the first assignment to `name` (meson.build)."""
    return rf"^{name} = .*$", "after"


def end_of_file():
    """Behind all that QEMU has."""
    return r"\Z", "after"


# File of QEMU, place in it, text of ours.
INSERTIONS = [
    # ---- The device, and the 64-byte access that only it knows ----
    ("hw/i386/meson.build", variable("i386_ss"), """
i386_ss.add(when: 'CONFIG_VTD', if_true: files('dsa.c'))
"""),
    ("include/exec/memory.h", struct("MemoryRegionOps"), """
    /*
     * Optional. A store of 64 bytes as one access; the address is a multiple
     * of 64. False: not accepted, which only a non-posted store can show.
     */
    bool (*write64b)(void *opaque, hwaddr addr, const uint8_t *data,
                     bool non_posted);
"""),

    # ---- The CPU: MOVDIRI, MOVDIR64B, ENQCMD, ENQCMDS, IA32_PASID ----
    ("target/i386/tcg/system/meson.build", end_of_file(), """
i386_system_ss.add(when: ['CONFIG_TCG', 'CONFIG_SYSTEM_ONLY'],
                   if_true: files('lab_store64.c'))
"""),
    ("target/i386/helper.h", end_of_file(), """
#include "lab_helper.h.inc"
"""),
    ("target/i386/tcg/decode-new.c.inc", before_table("opcodes_0F38_F0toFF"), """
#include "lab_store64.c.inc"
"""),
    ("target/i386/tcg/decode-new.c.inc", table("opcodes_0F38_F0toFF"), """
    LAB_STORE64_ROWS
"""),
    # Zero after RESET, kept over INIT.
    ("target/i386/cpu.h", member("start_init_save"), """
    uint64_t lab_ia32_pasid;
"""),
    ("target/i386/tcg/system/misc_helper.c", after_include("hw/i386/apic.h"), """
#include "lab_store64.h"
"""),
    ("target/i386/tcg/system/misc_helper.c", function("helper_rdmsr"), """
    if (lab_rdmsr(env, GETPC())) {
        return;
    }
"""),
    ("target/i386/tcg/system/misc_helper.c", function("helper_wrmsr"), """
    if (lab_wrmsr(env, GETPC())) {
        return;
    }
"""),

    # ---- A guest's CR8 and virtual interrupts ----
    # Of the same priority is not enough.
    ("target/i386/cpu.h", function("ctl_has_irq"), """
    if (!(env->int_ctl & V_IGN_TPR_MASK) &&
        (env->int_ctl & V_INTR_PRIO_MASK) >> V_INTR_PRIO_SHIFT ==
        (env->int_ctl & V_TPR_MASK)) {
        return false;
    }
"""),
    # Writing it may let one in, which needs the lock.
    ("target/i386/tcg/system/misc_helper.c", function("helper_write_crN"), """
    g_autoptr(BQLLockAuto) lab_lock = reg == 8 && (env->hflags2 & HF2_VINTR_MASK)
        ? bql_auto_lock(__FILE__, __LINE__) : NULL;
"""),

    # ---- The first processor's flags are its own ----
    # Whoever loads FPU state clears a flag of the first processor, from another thread. What
    # that one changes at the same moment is lost, nested paging at VMRUN and #VMEXIT too.
    ("target/i386/tcg/system/fpu_helper.c", function("cpu_clear_ignne"), """
    if (!(qatomic_read(&X86_CPU(first_cpu)->env.hflags2) & HF2_IGNNE_MASK)) {
        return;
    }
"""),

    # ---- An interrupt that VMRUN injects is delivered once ----
    # Its vector stays the pending exception otherwise, which is raised again if the thread is
    # asked to stop before the guest's next exit.
    ("target/i386/tcg/seg_helper.c", function("do_interrupt_x86_hardirq"), """
    env_cpu(env)->exception_index = -1;
"""),

    # ---- What VMRUN does to pending interrupts, other threads do too ----
    ("target/i386/tcg/system/svm_helper.c", after_include("tcg/helper-tcg.h"), """
#include "qemu/main-loop.h"
"""),
    ("target/i386/tcg/system/svm_helper.c", function("helper_vmrun"), """
    g_autoptr(BQLLockAuto) lab_lock = bql_auto_lock(__FILE__, __LINE__);
"""),

    # ---- x2APIC registers are devices: no "Bad icount read" ----
    ("target/i386/tcg/emit.c.inc", function("gen_RDMSR"), """
    translator_io_start(&s->base);
"""),
    ("target/i386/tcg/emit.c.inc", function("gen_WRMSR"), """
    translator_io_start(&s->base);
"""),

    # ---- The IOMMU: see lab_vtd.c.inc ----
    ("include/hw/i386/intel_iommu.h", struct("VTDAddressSpace"), """
    bool lab_blocked;           /* the last translation was refused */
"""),
    ("hw/i386/intel_iommu.c", after_include("intel_iommu_internal.h"), """
#include "lab_vtd.h"
"""),
    ("hw/i386/intel_iommu.c", function("vtd_get_pe_from_pasid_table"), """
    if (lab_get_cached_pasid(pasid_dir_base, pasid, pe)) {
        return 0;
    }
"""),
    # Of no concern to requests with another PASID; lab_walk_pasid() checks
    # the entry that a request uses.
    ("hw/i386/intel_iommu.c", function("vtd_ce_rid2pasid_check"), """
    return 0;
"""),
    # QEMU's short cut for pass-through goes around the checks of addresses.
    ("hw/i386/intel_iommu.c", function("vtd_as_pt_enabled"), """
    if (as->iommu_state->root_scalable) {
        return false;
    }
"""),
    # First-stage tables of 4 levels take 48 bits, whatever AW says.
    ("hw/i386/intel_iommu.c", function("vtd_iova_fl_check_canonical"), """
    return sextract64(iova, 0, 48) == iova;
"""),
    ("hw/i386/intel_iommu.c", before_function("vtd_do_iommu_translate"), """
#include "lab_vtd.c.inc"
"""),
    ("hw/i386/intel_iommu.c", before_function("vtd_root_table_setup"), """
#undef vtd_is_interrupt_addr
#undef vtd_ce_get_pasid_fpd
#undef vtd_report_fault
#define vtd_do_iommu_translate lab_translate
"""),
    ("hw/i386/intel_iommu.c", function("vtd_init"), """
    lab_flush_pasid_cache();
"""),
    ("hw/i386/intel_iommu.c", function("vtd_handle_gcmd_write"), """
    lab_update_cfi(s);
"""),
    ("hw/i386/intel_iommu.c", case("VTD_INV_DESC_PC"), """
        if (!lab_pasid_cache_invalidate(s, &inv_desc)) {
            return false;
        }
"""),
    ("hw/i386/intel_iommu.c", function("vtd_remap_irq_get"), """
    if (!lab_irte_is_remapped(iommu, index, sid, do_fault)) {
        return false;
    }
"""),
    ("hw/i386/intel_iommu.c", function("vtd_interrupt_remap_msi"), """
    if (lab_blocks_message(iommu, origin, sid, do_fault)) {
        return -EINVAL;
    }
"""),
    ("hw/i386/intel_iommu.c", function("vtd_mem_ir_write"), """
    attrs = lab_requester(attrs);
"""),
    # QEMU reports the offset in the interrupt range, not the address.
    ("hw/i386/intel_iommu.c", function("vtd_report_ir_illegal_access"), """
    addr += VTD_INTERRUPT_ADDR_FIRST;
    vtd_as->lab_blocked = true;
"""),
    # The IOAPIC's messages carry the source-id that the DMAR table gives it.
    ("hw/intc/ioapic.c", after_include("trace.h"), """
#include "hw/pci/pci.h"
#include "hw/pci-host/q35.h"
#define stl_le_phys(as, address, data)                                  \\
    address_space_stl_le(as, address, data, (MemTxAttrs) {              \\
        .requester_id = PCI_BUILD_BDF(Q35_PSEUDO_BUS_PLATFORM,          \\
                                      Q35_PSEUDO_DEVFN_IOAPIC),         \\
    }, NULL)
"""),
]


def insert(source, name, place, text):
    """`source`, the content of file `name`, with `text` put in."""
    pattern, side = place
    found = list(re.finditer(pattern, source, re.MULTILINE))
    if len(found) != 1:
        sys.exit(f"insert.py: {name}: place {pattern!r} found "
                 f"{len(found)} times, expected once")
    at = found[0].start() if side == "before" else found[0].end()
    lines = text.lstrip("\n") if side == "before" else text.rstrip("\n")
    result = source[:at] + lines + source[at:]
    return result if result.endswith("\n") else result + "\n"


def original(tree, name):
    """QEMU's own content of file `name`, kept at the first call."""
    kept = tree / ".labbox" / name
    if not kept.exists():
        copy = tree / ".labbox-copy"
        shutil.copyfile(tree / name, copy)
        kept.parent.mkdir(parents=True, exist_ok=True)
        copy.replace(kept)
    return kept.read_text()


def write(path, content):
    """Writes a file only where that changes it."""
    if not path.exists() or path.read_text() != content:
        path.write_text(content)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: insert.py TREE")
    tree = pathlib.Path(sys.argv[1])
    here = pathlib.Path(__file__).resolve().parent
    files = {theirs: (here / ours).read_text()
             for ours, theirs in COPIES.items()}
    for name, place, text in INSERTIONS:
        source = files.get(name) or original(tree, name)
        files[name] = insert(source, name, place, text)
    for kept in (tree / ".labbox").rglob("*"):
        # What an earlier overlay changed and this one does not.
        if kept.is_file():
            name = str(kept.relative_to(tree / ".labbox"))
            files.setdefault(name, kept.read_text())
    for name, content in files.items():
        write(tree / name, content)


if __name__ == "__main__":
    main()
