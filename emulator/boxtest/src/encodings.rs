//! The instructions under test, byte by byte. [Intel SDM, vol. 2]
//!
//! Unless a name says otherwise the destination is at RDI (for MOVDIRI the
//! memory operand `[rdi]`) and the source is `[rsi]`, or EAX/RAX for MOVDIRI.

/// Five bytes that do nothing, as long as most of the others.
pub(crate) const NOP: &[u8] = &[0x0f, 0x1f, 0x44, 0x00, 0x00];
/// `MOV [rdi], rax`, to compare the others with.
pub(crate) const STORE_64: &[u8] = &[0x48, 0x89, 0x07];

/// `MOVDIRI [rdi], eax` and `MOVDIRI [rdi], rax`.
pub(crate) const MOVDIRI_32: &[u8] = &[0x0f, 0x38, 0xf9, 0x07];
pub(crate) const MOVDIRI_64: &[u8] = &[0x48, 0x0f, 0x38, 0xf9, 0x07];
/// ModRM says a register where memory must be.
pub(crate) const MOVDIRI_REGISTER: &[u8] = &[0x0f, 0x38, 0xf9, 0xc7];
pub(crate) const MOVDIRI_LOCK: &[u8] = &[0xf0, 0x0f, 0x38, 0xf9, 0x07];
/// "NP": with any of these prefixes the opcode is another, undefined one.
pub(crate) const MOVDIRI_66: &[u8] = &[0x66, 0x0f, 0x38, 0xf9, 0x07];
pub(crate) const MOVDIRI_F2: &[u8] = &[0xf2, 0x0f, 0x38, 0xf9, 0x07];
pub(crate) const MOVDIRI_F3: &[u8] = &[0xf3, 0x0f, 0x38, 0xf9, 0x07];

/// `MOVDIR64B rdi, [rsi]`.
pub(crate) const MOVDIR64B: &[u8] = &[0x66, 0x0f, 0x38, 0xf8, 0x3e];
/// `MOVDIR64B r8, [r9]`.
pub(crate) const MOVDIR64B_R8_R9: &[u8] = &[0x66, 0x45, 0x0f, 0x38, 0xf8, 0x01];
/// `MOVDIR64B rdi, [rsi + rax * 8 + 0x40]`.
pub(crate) const MOVDIR64B_SIB: &[u8] = &[0x66, 0x0f, 0x38, 0xf8, 0x7c, 0xc6, 0x40];
/// `MOVDIR64B edi, [esi]`.
pub(crate) const MOVDIR64B_ADDRESS_32: &[u8] = &[0x67, 0x66, 0x0f, 0x38, 0xf8, 0x3e];
/// `MOVDIR64B rdi, fs:[rsi]`.
pub(crate) const MOVDIR64B_FS: &[u8] = &[0x64, 0x66, 0x0f, 0x38, 0xf8, 0x3e];
/// `MOVDIR64B rdi, [rsi]; JMP rdi`.
pub(crate) const MOVDIR64B_AND_JUMP: &[u8] = &[0x66, 0x0f, 0x38, 0xf8, 0x3e, 0xff, 0xe7];
pub(crate) const MOVDIR64B_REGISTER: &[u8] = &[0x66, 0x0f, 0x38, 0xf8, 0xfe];
pub(crate) const MOVDIR64B_LOCK: &[u8] = &[0xf0, 0x66, 0x0f, 0x38, 0xf8, 0x3e];
/// The opcode of the three 64-byte instructions without its prefix.
pub(crate) const BARE_OPCODE: &[u8] = &[0x0f, 0x38, 0xf8, 0x3e];

/// `ENQCMD rdi, [rsi]`.
pub(crate) const ENQCMD: &[u8] = &[0xf2, 0x0f, 0x38, 0xf8, 0x3e];
/// `ENQCMD r8, [r9]`.
pub(crate) const ENQCMD_R8_R9: &[u8] = &[0xf2, 0x45, 0x0f, 0x38, 0xf8, 0x01];
/// `ENQCMD edi, [esi]`.
pub(crate) const ENQCMD_ADDRESS_32: &[u8] = &[0x67, 0xf2, 0x0f, 0x38, 0xf8, 0x3e];
pub(crate) const ENQCMD_REGISTER: &[u8] = &[0xf2, 0x0f, 0x38, 0xf8, 0xfe];
pub(crate) const ENQCMD_LOCK: &[u8] = &[0xf0, 0xf2, 0x0f, 0x38, 0xf8, 0x3e];

/// `ENQCMDS rdi, [rsi]`.
pub(crate) const ENQCMDS: &[u8] = &[0xf3, 0x0f, 0x38, 0xf8, 0x3e];
/// `ENQCMDS edi, [esi]`.
pub(crate) const ENQCMDS_ADDRESS_32: &[u8] = &[0x67, 0xf3, 0x0f, 0x38, 0xf8, 0x3e];
pub(crate) const ENQCMDS_REGISTER: &[u8] = &[0xf3, 0x0f, 0x38, 0xf8, 0xfe];
pub(crate) const ENQCMDS_LOCK: &[u8] = &[0xf0, 0xf3, 0x0f, 0x38, 0xf8, 0x3e];

/// `RDMSR` and `WRMSR`.
pub(crate) const RDMSR: &[u8] = &[0x0f, 0x32];
pub(crate) const WRMSR: &[u8] = &[0x0f, 0x30];
/// `VMMCALL`.
pub(crate) const VMMCALL: &[u8] = &[0x0f, 0x01, 0xd9];
