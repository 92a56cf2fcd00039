/*
 * The C interface of libdsa_model.so, the model of an Intel Data Streaming
 * Accelerator. Whoever embeds the model (here: the QEMU device in dsa.c)
 * carries accesses in and effects out; the model decides everything.
 *
 * Rules of the interface:
 *  - A model is not thread safe: call it under one lock (QEMU's BQL).
 *  - Any entry point below may call the bus. An access that reaches the model
 *    while the model is inside a bus call (the device being pointed at its own
 *    BAR) is answered like an absent device: reads all-ones, writes dropped.
 *  - After every entry point, read dsa_model_deadline() and arm a timer on the
 *    virtual clock for it; when it fires call dsa_model_advance().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef DSA_MODEL_H
#define DSA_MODEL_H

#include <stddef.h>
#include <stdint.h>

/* What dsa_model_abi() of a matching library returns. */
#define DSA_MODEL_ABI 1u

typedef struct DsaModel DsaModel;

/* `pasid` of a DMA request that carries no PASID; otherwise 20 bits. */
#define DSA_NO_PASID 0xffffffffu

/* How a bus access ended. */
enum {
    DSA_BUS_OK = 0,
    /* The IOMMU has no translation, or not this permission: a page fault. */
    DSA_BUS_FAULT = 1,
    /* Nothing answered there, or the access was aborted. */
    DSA_BUS_ERROR = 2,
};

/* What dsa_model_config_write() asks of the caller. */
enum {
    DSA_CONFIG_DONE = 0,
    /* Software initiated a function level reset: reset the PCI function,
     * dsa_model_reset() included. */
    DSA_CONFIG_FLR = 1,
};

/* How a 64-byte portal write ended. A posted write is always ACCEPTED. */
enum {
    DSA_PORTAL_ACCEPTED = 0,
    DSA_PORTAL_RETRY = 1,
};

/* The machine around the device. Copied by dsa_model_new(). */
typedef struct DsaModelBus {
    void *opaque;
    /* Virtual time in nanoseconds; never goes back. */
    uint64_t (*now_ns)(void *opaque);
    /* DMA of `length` bytes at `address`. Stops at the first page that fails
     * and stores the number of bytes that were transferred before it. */
    uint32_t (*dma_read)(void *opaque, uint32_t pasid, uint32_t privileged,
                         uint64_t address, uint8_t *data, uint64_t length,
                         uint64_t *done);
    uint32_t (*dma_write)(void *opaque, uint32_t pasid, uint32_t privileged,
                          uint64_t address, const uint8_t *data,
                          uint64_t length, uint64_t *done);
    /* A 32-bit interrupt message with the function's own requester id and no
     * PASID. */
    uint32_t (*send_message)(void *opaque, uint64_t address, uint32_t data);
} DsaModelBus;

uint32_t dsa_model_abi(void);

/* A powered-up device. `options` is a list "name=value;name=value" (empty: the
 * default identity). On failure returns NULL and writes one line to `error`. */
DsaModel *dsa_model_new(const char *options, const DsaModelBus *bus,
                        char *error, size_t error_length);
void dsa_model_free(DsaModel *model);

/* Power-on or function level reset. */
void dsa_model_reset(DsaModel *model);

/* PCI configuration space, 4 KiB, naturally aligned 1-, 2- and 4-byte
 * accesses. The model keeps all of it, the header included. */
uint32_t dsa_model_config_read(DsaModel *model, uint32_t offset, uint32_t size);
uint32_t dsa_model_config_write(DsaModel *model, uint32_t offset, uint32_t size,
                                uint32_t value);

/* Size in bytes of BAR 0 or 2, both 64-bit prefetchable; 0 for another BAR. */
uint64_t dsa_model_bar_size(const DsaModel *model, uint32_t bar);
uint64_t dsa_model_mmio_read(DsaModel *model, uint32_t bar, uint64_t offset,
                             uint32_t size);
void dsa_model_mmio_write(DsaModel *model, uint32_t bar, uint64_t offset,
                          uint32_t size, uint64_t value);

/* One 64-byte write that arrived whole: posted (MOVDIR64B) or, with
 * `non_posted`, a deferrable write (ENQCMD, ENQCMDS). */
uint32_t dsa_model_portal_write(DsaModel *model, uint32_t bar, uint64_t offset,
                                const uint8_t data[64], uint32_t non_posted);

/* Virtual time at which the device has something to do; UINT64_MAX: idle. */
uint64_t dsa_model_deadline(const DsaModel *model);
/* Does what is due by now. */
void dsa_model_advance(DsaModel *model);

/* The bench side of the device, not visible to software on the box: faults on
 * demand, violations, counters, the trace. Returns 0 and an answer in `reply`,
 * or -1 and one line that says what was wrong with `command`. The reply is cut
 * to `reply_length` and always ends in a NUL. */
int dsa_model_control(DsaModel *model, const char *command, char *reply,
                      size_t reply_length);

#endif
