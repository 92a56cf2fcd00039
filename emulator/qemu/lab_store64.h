/*
 * The lab box's additions to QEMU's x86 CPU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_LAB_STORE64_H
#define TARGET_I386_LAB_STORE64_H

/* CPUID.(EAX=7,ECX=0):ECX[29]: ENQCMD, ENQCMDS and IA32_PASID. */
#define LAB_CPUID_7_0_ECX_ENQCMD    (1U << 29)

/* RDMSR and WRMSR of IA32_PASID. False: another MSR. */
bool lab_rdmsr(CPUX86State *env, uintptr_t ra);
bool lab_wrmsr(CPUX86State *env, uintptr_t ra);

#endif
