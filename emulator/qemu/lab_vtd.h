/*
 * What hw/i386/intel_iommu.c sees of lab_vtd.c.inc, and the constants in which
 * the lab box differs from QEMU. Included after intel_iommu_internal.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_I386_LAB_VTD_H
#define HW_I386_LAB_VTD_H

/*
 * PASIDs have 20 bits. ECAP.PSS (39:35) holds the width minus one.
 * [VT-d 5.10 "Extended Capability Register"]
 */
#undef VTD_ECAP_PASID
#define VTD_ECAP_PASID          ((1ULL << 40) | (19ULL << 35))

/* FRCD.PV is bits 123:104 of the record: 20 bits, not 16. */
#undef VTD_FRCD_PV
#define VTD_FRCD_PV(pasid)      (((uint64_t)(pasid) & 0xfffff) << 40)

static bool lab_get_cached_pasid(dma_addr_t directory, uint32_t pasid,
                                 VTDPASIDEntry *pe);

#endif
