/*
 * 64-byte stores: MOVDIR64B, ENQCMD, ENQCMDS, and the MSR IA32_PASID.
 *
 * Every check and every page fault comes before the store. A device that
 * implements MemoryRegionOps.write64b receives the 64 bytes as one access.
 * Rules: Intel SDM, volume 2, the instructions' own pages, and volume 4,
 * IA32_PASID.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "cpu.h"
#include "cpu-internal.h"
#include "exec/exec-all.h"
#include "exec/helper-proto.h"
#include "exec/cpu_ldst.h"
#include "exec/cputlb.h"
#include "exec/memory.h"
#include "tcg/helper-tcg.h"
#include "lab_store64.h"

#define MSR_IA32_PASID          0xd93
#define PASID_VALID             (1ULL << 31)
#define PASID_MASK              0xfffffULL

/* The first dword of a command: PASID, reserved bits, privilege. */
#define COMMAND_RESERVED        0x7ff00000U

typedef struct Store64 {
    CPUX86State *env;
    target_ulong address;
    int mmu_idx;
    uintptr_t ra;
    uint8_t data[64];
} Store64;

static G_NORETURN void fault_gp(CPUX86State *env, uintptr_t ra)
{
    raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
}

/* A linear address `offset` bytes on; it wraps at 4 GiB outside 64-bit mode. */
static target_ulong linear_add(CPUX86State *env, target_ulong address,
                               unsigned offset)
{
    address += offset;
    return env->hflags & HF_CS64_MASK ? address : (uint32_t)address;
}

/* Checks the destination's alignment and loads the source operand. */
static void store64_begin(Store64 *s, CPUX86State *env, target_ulong address,
                          target_ulong source, uintptr_t ra)
{
    s->env = env;
    s->address = address;
    s->mmu_idx = cpu_mmu_index(env_cpu(env), false);
    s->ra = ra;
    if (address & 63) {
        fault_gp(env, ra);
    }
    for (unsigned i = 0; i < 64; i += 8) {
        stq_le_p(s->data + i,
                 cpu_ldq_mmuidx_ra(env, linear_add(env, source, i),
                                   s->mmu_idx, ra));
    }
}

/*
 * Where the store goes: a pointer for RAM, NULL for anything else. Raises the
 * page faults of both stages and the data breakpoints of a store.
 */
static void *store64_probe(Store64 *s)
{
    return probe_access(s->env, s->address, 64, MMU_DATA_STORE, s->mmu_idx,
                        s->ra);
}

/* The region behind a destination that is not RAM, and the offset in it. */
static MemoryRegion *store64_region(Store64 *s, hwaddr *offset)
{
    CPUState *cpu = env_cpu(s->env);
    CPUTLBEntryFull *full;
    void *host;

    probe_access_full(s->env, s->address, 64, MMU_DATA_STORE, s->mmu_idx,
                      false, &host, &full, s->ra);
    cpu->mem_io_pc = s->ra;
    *offset = (full->xlat_section & TARGET_PAGE_MASK) + s->address;
    return iotlb_to_section(cpu, full->xlat_section, full->attrs)->mr;
}

static bool has_write64b(MemoryRegion *mr)
{
    return mr->ops && mr->ops->write64b;
}

static void store64_as_quadwords(Store64 *s)
{
    for (unsigned i = 0; i < 64; i += 8) {
        cpu_stq_mmuidx_ra(s->env, s->address + i, ldq_le_p(s->data + i),
                          s->mmu_idx, s->ra);
    }
}

void helper_movdir64b(CPUX86State *env, target_ulong address,
                      target_ulong source)
{
    Store64 s;
    void *host;
    MemoryRegion *mr;
    hwaddr offset;

    store64_begin(&s, env, address, source, GETPC());
    host = store64_probe(&s);
    if (host) {
        memcpy(host, s.data, 64);
        return;
    }
    mr = store64_region(&s, &offset);
    if (has_write64b(mr)) {
        BQL_LOCK_GUARD();
        mr->ops->write64b(mr->opaque, offset, s.data, false);
    } else {
        store64_as_quadwords(&s);
    }
}

/*
 * An enqueue store: only a device that has enqueue registers takes it. Returns
 * the flags: ZF asks software to try again, the other five are cleared.
 */
static target_ulong store64_enqueue(Store64 *s)
{
    MemoryRegion *mr;
    hwaddr offset;

    if (store64_probe(s)) {
        return CC_Z;
    }
    mr = store64_region(s, &offset);
    if (!has_write64b(mr)) {
        return CC_Z;
    }
    BQL_LOCK_GUARD();
    return mr->ops->write64b(mr->opaque, offset, s->data, true) ? 0 : CC_Z;
}

/* ENQCMD: the PASID is that of IA32_PASID, the privilege is user. */
target_ulong helper_enqcmd(CPUX86State *env, target_ulong address,
                           target_ulong source)
{
    Store64 s;

    if (!(env->lab_ia32_pasid & PASID_VALID)) {
        fault_gp(env, GETPC());
    }
    store64_begin(&s, env, address, source, GETPC());
    if (ldl_le_p(s.data)) {
        fault_gp(env, GETPC());
    }
    stl_le_p(s.data, env->lab_ia32_pasid & PASID_MASK);
    return store64_enqueue(&s);
}

/* ENQCMDS: PASID and privilege are the source operand's. */
target_ulong helper_enqcmds(CPUX86State *env, target_ulong address,
                            target_ulong source)
{
    Store64 s;

    store64_begin(&s, env, address, source, GETPC());
    if (ldl_le_p(s.data) & COMMAND_RESERVED) {
        fault_gp(env, GETPC());
    }
    return store64_enqueue(&s);
}

/* Intercepts and checks an access to IA32_PASID. False: another MSR. */
static bool is_pasid_msr(CPUX86State *env, bool is_write, uintptr_t ra)
{
    if ((uint32_t)env->regs[R_ECX] != MSR_IA32_PASID) {
        return false;
    }
    cpu_svm_check_intercept_param(env, SVM_EXIT_MSR, is_write, ra);
    if (!(env->features[FEAT_7_0_ECX] & LAB_CPUID_7_0_ECX_ENQCMD)) {
        fault_gp(env, ra);
    }
    return true;
}

bool lab_rdmsr(CPUX86State *env, uintptr_t ra)
{
    if (!is_pasid_msr(env, false, ra)) {
        return false;
    }
    env->regs[R_EAX] = (uint32_t)env->lab_ia32_pasid;
    env->regs[R_EDX] = 0;
    return true;
}

bool lab_wrmsr(CPUX86State *env, uintptr_t ra)
{
    uint32_t low = env->regs[R_EAX];

    if (!is_pasid_msr(env, true, ra)) {
        return false;
    }
    if ((uint32_t)env->regs[R_EDX] || (low & ~(PASID_VALID | PASID_MASK))) {
        fault_gp(env, ra);
    }
    env->lab_ia32_pasid = low;
    return true;
}

/* Makes the instructions known to -cpu: +movdiri, +movdir64b, +enqcmd. */
static void lab_register_features(void)
{
    FeatureWordInfo *word = &feature_word_info[FEAT_7_0_ECX];

    word->feat_names[ctz32(LAB_CPUID_7_0_ECX_ENQCMD)] = "enqcmd";
    word->tcg_features |= CPUID_7_0_ECX_MOVDIRI | CPUID_7_0_ECX_MOVDIR64B |
                          LAB_CPUID_7_0_ECX_ENQCMD;
}

type_init(lab_register_features)
