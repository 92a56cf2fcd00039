/*
 * A PCIe function that carries accesses into libdsa_model.so, the model of an
 * Intel Data Streaming Accelerator, and its DMA and interrupts out of it. The
 * model decides everything; see dsa_model.h.
 *
 *   -device dsa,id=dsa0,model=PATH[,options="name=value;..."]
 *
 * The QOM properties `control` and `report` are the bench side of the model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include <dlfcn.h>
#include "qapi/error.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "hw/i386/intel_iommu.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "dsa_model.h"

#define TYPE_DSA "dsa"
OBJECT_DECLARE_SIMPLE_TYPE(DsaState, DSA)

#define DSA_PAGE_SIZE           4096u
#define DSA_ERROR_LENGTH        512u
#define DSA_REPLY_LENGTH        (64u * KiB)
#define DSA_REPLY_LENGTH_MAX    (64u * MiB)

/* The model's functions, each member named as in dsa_model.h, abi first. */
#define DSA_FUNCTIONS(X)                                                    \
    X(abi) X(new) X(free) X(reset) X(config_read) X(config_write)           \
    X(bar_size) X(mmio_read) X(mmio_write) X(portal_write) X(deadline)      \
    X(advance) X(control)

typedef struct DsaFunctions {
#define DSA_MEMBER(name) typeof(dsa_model_##name) *name;
    DSA_FUNCTIONS(DSA_MEMBER)
} DsaFunctions;

typedef struct DsaBar {
    DsaState *dsa;
    uint32_t number;
    MemoryRegion region;
} DsaBar;

struct DsaState {
    PCIDevice parent_obj;

    char *library;
    char *options;
    DsaFunctions call;
    DsaModel *model;
    DsaBar bars[2];
    QEMUTimer *timer;
    /* PASID (or DSA_NO_PASID) to VTDAddressSpace, which lives for ever. */
    GHashTable *spaces;
    /* What the last control command answered. */
    char *reply;
};

static const struct {
    const char *name;
    size_t offset;
} dsa_symbols[] = {
#define DSA_SYMBOL(name) { "dsa_model_" #name, offsetof(DsaFunctions, name) },
    DSA_FUNCTIONS(DSA_SYMBOL)
};

/* Time: after each entry into the model. */

static void dsa_rearm(DsaState *s)
{
    uint64_t deadline = s->call.deadline(s->model);

    if (deadline == UINT64_MAX) {
        timer_del(s->timer);
    } else {
        timer_mod_ns(s->timer, MIN(deadline, INT64_MAX));
    }
}

static void dsa_timer(void *opaque)
{
    DsaState *s = opaque;

    s->call.advance(s->model);
    dsa_rearm(s);
}

static uint64_t dsa_now_ns(void *opaque)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/* DMA and interrupt messages: what the model asks of the machine. */

static bool dsa_is_bus_master(DsaState *s)
{
    return pci_get_word(PCI_DEVICE(s)->config + PCI_COMMAND) &
           PCI_COMMAND_MASTER;
}

static IntelIOMMUState *dsa_iommu(void)
{
    return (IntelIOMMUState *)object_dynamic_cast(
        OBJECT(x86_iommu_get_default()), TYPE_INTEL_IOMMU_DEVICE);
}

/* The IOMMU's view of this function and PASID; NULL without an IOMMU. */
static VTDAddressSpace *dsa_space(DsaState *s, uint32_t pasid)
{
    PCIDevice *pci = PCI_DEVICE(s);
    VTDAddressSpace *space = g_hash_table_lookup(s->spaces,
                                                 GUINT_TO_POINTER(pasid));
    IntelIOMMUState *iommu;

    if (space) {
        return space;
    }
    iommu = dsa_iommu();
    if (iommu) {
        space = vtd_find_add_as(iommu, pci_get_bus(pci), pci->devfn,
                                pasid == DSA_NO_PASID ? PCI_NO_PASID : pasid);
        g_hash_table_insert(s->spaces, GUINT_TO_POINTER(pasid), space);
    }
    return space;
}

/*
 * The address space of a request, or NULL and the reason for refusing it. A
 * request with a PASID is never an interrupt: it needs an IOMMU that
 * translates, and keeps clear of the one that QEMU shows while translation is
 * off, where 0xFEEx_xxxx takes interrupt messages.
 */
static AddressSpace *dsa_route(DsaState *s, uint32_t pasid,
                               VTDAddressSpace *space, uint32_t *refused)
{
    if (pasid == DSA_NO_PASID) {
        return pci_get_address_space(PCI_DEVICE(s));
    }
    *refused = DSA_BUS_FAULT;
    if (!space || !space->iommu_state->dmar_enabled) {
        return NULL;
    }
    *refused = DSA_BUS_ERROR;
    return dsa_is_bus_master(s) ? &space->as : NULL;
}

/*
 * One access that stays within a page. QEMU's result does not tell a refused
 * translation from an address where nothing answers: lab_blocked does.
 */
static uint32_t dsa_access_page(DsaState *s, uint32_t pasid, MemTxAttrs attrs,
                                uint64_t address, void *data, uint64_t length,
                                bool is_write)
{
    VTDAddressSpace *space = dsa_space(s, pasid);
    uint32_t refused;
    AddressSpace *as = dsa_route(s, pasid, space, &refused);

    if (!as) {
        return refused;
    }
    if (space) {
        space->lab_blocked = false;
    }
    if (address_space_rw(as, address, attrs, data, length, is_write)) {
        return space && space->lab_blocked ? DSA_BUS_FAULT : DSA_BUS_ERROR;
    }
    return DSA_BUS_OK;
}

/*
 * Page by page, as far as the first failure: one long access would go on after
 * a page that faults. The requester id lets interrupt remapping verify the
 * source of a request without PASID that hits the interrupt range.
 */
static uint32_t dsa_access(DsaState *s, uint32_t pasid, uint32_t privileged,
                           uint64_t address, void *data, uint64_t length,
                           uint64_t *done, bool is_write)
{
    MemTxAttrs attrs = {
        .requester_id = pci_requester_id(PCI_DEVICE(s)),
        .user = !privileged,
    };

    *done = 0;
    while (*done < length) {
        uint64_t at = address + *done;
        uint64_t chunk = MIN(length - *done,
                             DSA_PAGE_SIZE - at % DSA_PAGE_SIZE);
        uint32_t result = dsa_access_page(s, pasid, attrs, at,
                                          (uint8_t *)data + *done, chunk,
                                          is_write);

        if (result != DSA_BUS_OK) {
            return result;
        }
        *done += chunk;
    }
    return DSA_BUS_OK;
}

static uint32_t dsa_dma_read(void *opaque, uint32_t pasid, uint32_t privileged,
                             uint64_t address, uint8_t *data, uint64_t length,
                             uint64_t *done)
{
    return dsa_access(opaque, pasid, privileged, address, data, length, done,
                      false);
}

static uint32_t dsa_dma_write(void *opaque, uint32_t pasid, uint32_t privileged,
                              uint64_t address, const uint8_t *data,
                              uint64_t length, uint64_t *done)
{
    return dsa_access(opaque, pasid, privileged, address, (void *)data, length,
                      done, true);
}

static uint32_t dsa_send_message(void *opaque, uint64_t address, uint32_t data)
{
    PCIDevice *pci = PCI_DEVICE(opaque);
    MemTxAttrs attrs = { .requester_id = pci_requester_id(pci) };
    MemTxResult result;

    address_space_stl_le(pci_get_address_space(pci), address, data, attrs,
                         &result);
    return result == MEMTX_OK ? DSA_BUS_OK : DSA_BUS_ERROR;
}

/* BARs: accesses that the machine makes. */

static uint64_t dsa_mmio_read(void *opaque, hwaddr offset, unsigned size)
{
    DsaBar *bar = opaque;
    DsaState *s = bar->dsa;
    uint64_t value = s->call.mmio_read(s->model, bar->number, offset, size);

    dsa_rearm(s);
    return value;
}

static void dsa_mmio_write(void *opaque, hwaddr offset, uint64_t value,
                           unsigned size)
{
    DsaBar *bar = opaque;
    DsaState *s = bar->dsa;

    s->call.mmio_write(s->model, bar->number, offset, size, value);
    dsa_rearm(s);
}

static bool dsa_mmio_write64b(void *opaque, hwaddr offset, const uint8_t *data,
                              bool non_posted)
{
    DsaBar *bar = opaque;
    DsaState *s = bar->dsa;
    uint32_t status = s->call.portal_write(s->model, bar->number, offset, data,
                                           non_posted);

    dsa_rearm(s);
    return status == DSA_PORTAL_ACCEPTED;
}

static const MemoryRegionOps dsa_mmio_ops = {
    .read = dsa_mmio_read,
    .write = dsa_mmio_write,
    .write64b = dsa_mmio_write64b,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

static void dsa_add_bar(DsaState *s, DsaBar *bar, uint32_t number)
{
    g_autofree char *name = g_strdup_printf("dsa-bar%u", number);

    bar->dsa = s;
    bar->number = number;
    memory_region_init_io(&bar->region, OBJECT(s), &dsa_mmio_ops, bar, name,
                          s->call.bar_size(s->model, number));
    /* The model answers a device that is pointed at itself. */
    bar->region.disable_reentrancy_guard = true;
    pci_register_bar(PCI_DEVICE(s), number,
                     PCI_BASE_ADDRESS_SPACE_MEMORY |
                     PCI_BASE_ADDRESS_MEM_TYPE_64 |
                     PCI_BASE_ADDRESS_MEM_PREFETCH, &bar->region);
}

/*
 * Configuration space: the header is QEMU's, which maps the BARs, and the
 * model sees every write; the rest is the model's. The model is accessed
 * aligned, so an access that is not goes byte by byte.
 */

static uint32_t dsa_config_read(PCIDevice *pci, uint32_t offset, int length)
{
    DsaState *s = DSA(pci);
    uint32_t value = 0;

    if (offset < PCI_CONFIG_HEADER_SIZE) {
        return pci_default_read_config(pci, offset, length);
    }
    if (offset % length == 0) {
        value = s->call.config_read(s->model, offset, length);
    } else {
        for (int i = 0; i < length; i++) {
            value |= s->call.config_read(s->model, offset + i, 1) << (8 * i);
        }
    }
    dsa_rearm(s);
    return value;
}

static bool dsa_model_config_asks_flr(DsaState *s, uint32_t offset,
                                      uint32_t value, int length)
{
    bool flr = false;

    if (offset % length == 0) {
        return s->call.config_write(s->model, offset, length, value) ==
               DSA_CONFIG_FLR;
    }
    for (int i = 0; i < length; i++) {
        flr |= s->call.config_write(s->model, offset + i, 1,
                                    (value >> (8 * i)) & 0xff) ==
               DSA_CONFIG_FLR;
    }
    return flr;
}

static void dsa_config_write(PCIDevice *pci, uint32_t offset, uint32_t value,
                             int length)
{
    DsaState *s = DSA(pci);

    if (offset < PCI_CONFIG_HEADER_SIZE) {
        pci_default_write_config(pci, offset, value, length);
    }
    if (dsa_model_config_asks_flr(s, offset, value, length)) {
        pci_device_reset(pci);
    }
    dsa_rearm(s);
}

/* QEMU's core wants to know where the PCI Express capability is. */
static uint8_t dsa_find_express_capability(PCIDevice *pci)
{
    uint8_t at = pci->config[PCI_CAPABILITY_LIST];

    for (int left = 48; at >= PCI_CONFIG_HEADER_SIZE && left > 0; left--) {
        if (pci->config[at + PCI_CAP_LIST_ID] == PCI_CAP_ID_EXP) {
            return at;
        }
        at = pci->config[at + PCI_CAP_LIST_NEXT] & ~3;
    }
    return 0;
}

static void dsa_seed_config(DsaState *s)
{
    PCIDevice *pci = PCI_DEVICE(s);

    for (uint32_t at = 0; at < pci_config_size(pci); at += 4) {
        pci_set_long(pci->config + at, s->call.config_read(s->model, at, 4));
    }
    pci->exp.exp_cap = dsa_find_express_capability(pci);
    /* The device has neither I/O space nor INTx, and reports parity errors. */
    pci_set_word(pci->wmask + PCI_COMMAND,
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
                 PCI_COMMAND_PARITY | PCI_COMMAND_SERR);
}

/* Life cycle. */

static bool dsa_load_library(DsaState *s, Error **errp)
{
    void *library;

    if (!s->library) {
        error_setg(errp, "property 'model' must name libdsa_model.so");
        return false;
    }
    library = dlopen(s->library, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        error_setg(errp, "no device model: %s", dlerror());
        return false;
    }
    for (int i = 0; i < ARRAY_SIZE(dsa_symbols); i++) {
        void *function = dlsym(library, dsa_symbols[i].name);

        if (!function) {
            error_setg(errp, "%s lacks the function %s", s->library,
                       dsa_symbols[i].name);
            return false;
        }
        memcpy((char *)&s->call + dsa_symbols[i].offset, &function,
               sizeof(function));
        /* The version comes first: another may have other functions. */
        if (i == 0 && s->call.abi() != DSA_MODEL_ABI) {
            error_setg(errp, "%s has interface version %u, this QEMU needs %u",
                       s->library, s->call.abi(), DSA_MODEL_ABI);
            return false;
        }
    }
    return true;
}

static bool dsa_create_model(DsaState *s, Error **errp)
{
    DsaModelBus bus = {
        .opaque = s,
        .now_ns = dsa_now_ns,
        .dma_read = dsa_dma_read,
        .dma_write = dsa_dma_write,
        .send_message = dsa_send_message,
    };
    char reason[DSA_ERROR_LENGTH] = "";

    s->model = s->call.new(s->options ?: "", &bus, reason, sizeof(reason));
    if (!s->model) {
        error_setg(errp, "%s", reason);
    }
    return s->model;
}

static void dsa_realize(PCIDevice *pci, Error **errp)
{
    DsaState *s = DSA(pci);

    if (!dsa_load_library(s, errp) || !dsa_create_model(s, errp)) {
        return;
    }
    s->spaces = g_hash_table_new(NULL, NULL);
    s->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, dsa_timer, s);
    dsa_seed_config(s);
    dsa_add_bar(s, &s->bars[0], 0);
    dsa_add_bar(s, &s->bars[1], 2);
}

static void dsa_exit(PCIDevice *pci)
{
    DsaState *s = DSA(pci);

    timer_free(s->timer);
    g_hash_table_destroy(s->spaces);
    s->call.free(s->model);
    g_free(s->reply);
}

static void dsa_reset_hold(Object *object, ResetType type)
{
    DsaState *s = DSA(object);

    s->call.reset(s->model);
    dsa_rearm(s);
}

/* The bench side. */

/* True, and the reply in s->reply, or false and an error. */
static bool dsa_control(DsaState *s, const char *command, Error **errp)
{
    size_t length = DSA_REPLY_LENGTH;
    bool ok;

    if (!s->model) {
        error_setg(errp, "the device is not there yet");
        return false;
    }
    do {
        s->reply = g_realloc(s->reply, length);
        ok = s->call.control(s->model, command, s->reply, length) == 0;
        length *= 2;
    } while (strlen(s->reply) == length / 2 - 1 &&
             strcmp(command, "report") == 0 && length <= DSA_REPLY_LENGTH_MAX);
    dsa_rearm(s);
    if (!ok) {
        error_setg(errp, "%s", s->reply);
    }
    return ok;
}

static void dsa_set_control(Object *object, const char *command, Error **errp)
{
    dsa_control(DSA(object), command, errp);
}

static char *dsa_get_control(Object *object, Error **errp)
{
    return g_strdup(DSA(object)->reply ?: "");
}

static char *dsa_get_report(Object *object, Error **errp)
{
    DsaState *s = DSA(object);

    return dsa_control(s, "report", errp) ? g_strdup(s->reply) : NULL;
}

static const Property dsa_properties[] = {
    DEFINE_PROP_STRING("model", DsaState, library),
    DEFINE_PROP_STRING("options", DsaState, options),
};

static const VMStateDescription dsa_vmstate = {
    .name = TYPE_DSA,
    .unmigratable = 1,
};

static void dsa_class_init(ObjectClass *class, void *data)
{
    DeviceClass *device = DEVICE_CLASS(class);
    PCIDeviceClass *pci = PCI_DEVICE_CLASS(class);

    device->desc = "Intel Data Streaming Accelerator";
    device->vmsd = &dsa_vmstate;
    device->hotpluggable = false;
    device_class_set_props(device, dsa_properties);
    set_bit(DEVICE_CATEGORY_MISC, device->categories);
    RESETTABLE_CLASS(class)->phases.hold = dsa_reset_hold;
    pci->realize = dsa_realize;
    pci->exit = dsa_exit;
    pci->config_read = dsa_config_read;
    pci->config_write = dsa_config_write;
    object_class_property_add_str(class, "control", dsa_get_control,
                                  dsa_set_control);
    object_class_property_add_str(class, "report", dsa_get_report, NULL);
}

static const TypeInfo dsa_info = {
    .name = TYPE_DSA,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(DsaState),
    .class_init = dsa_class_init,
    .interfaces = (InterfaceInfo[]) {
        { INTERFACE_PCIE_DEVICE },
        { }
    },
};

static void dsa_register_types(void)
{
    type_register_static(&dsa_info);
}

type_init(dsa_register_types)
