//! The rules that a descriptor can break, and their names for people.

use hwspec::dsa::Status;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident: $status:ident, $title:literal, $field:literal, $advice:literal;)*) => {
        /// What a refused descriptor did wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The code that the guest is told.
            pub const fn status(self) -> Status {
                match self {
                    $(Self::$name => Status::$status,)*
                }
            }

            /// What is wrong, for people.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }

            /// The field that is wrong, as the specification calls it.
            pub const fn field(self) -> &'static str {
                match self {
                    $(Self::$name => $field,)*
                }
            }

            /// What to do about it.
            pub const fn advice(self) -> &'static str {
                match self {
                    $(Self::$name => $advice,)*
                }
            }
        }
    };
}

rules! {
    /// An operation that the virtual device does not have.
    Operation: UNSUPPORTED_OPERATION,
        "operation not offered", "Operation",
        "use the operations of the guest's OPCAP";
    /// A batch or a drain in a batch.
    Nested: UNSUPPORTED_OPERATION,
        "batch or drain inside a batch", "Operation",
        "submit it by itself";
    /// A flag that may not be set, or that must be.
    Flags: INVALID_FLAGS,
        "invalid flags", "Flags",
        "set the flags that the operation has on a DSA 1.0 without block on fault";
    /// A reserved field that is not zero.
    ReservedField: RESERVED_FIELD,
        "reserved field not zero", "reserved field",
        "clear the whole descriptor before it is filled in";
    /// No bytes, more than the queue allows, or no whole blocks.
    TransferSize: TRANSFER_SIZE,
        "transfer size out of range", "Transfer Size",
        "stay within WQCFG's maximum transfer size, in whole blocks for DIF operations";
    /// Fewer descriptors than two, or more than the queue allows.
    DescriptorCount: DESCRIPTOR_COUNT,
        "batch size out of range", "Descriptor Count",
        "put between 2 descriptors and WQCFG's maximum batch size into a batch";
    /// The descriptor list is not aligned to 64 bytes.
    ListAlignment: LIST_ALIGNMENT,
        "descriptor list misaligned", "Descriptor List Address",
        "align the list to 64 bytes";
    /// The descriptor list is not in the guest's RAM.
    ListMemory: HARDWARE_ERROR,
        "descriptor list not in guest memory", "Descriptor List Address",
        "put the list into the guest's RAM";
    /// An address or size of the operation is not aligned.
    Alignment: ALIGNMENT,
        "operand misaligned", "address",
        "align the operands as the operation asks for";
    /// A delta record that is too small or too large.
    DeltaSize: UNSUPPORTED_VALUE,
        "delta record size out of range", "Delta Record Size",
        "give a delta record at least 80 bytes, and apply one in steps of 10";
    /// Buffers that overlap and must not.
    Overlap: OVERLAP,
        "buffers overlap", "Destination Address",
        "keep source and destination apart";
    /// The two destinations of a dualcast are not at the same place in their pages.
    DualcastOffsets: DUALCAST_ALIGNMENT,
        "dualcast destinations differ in bits 11:0", "Destination2 Address",
        "put both destinations at the same offset in their pages";
    /// No vector of this guest has the handle.
    UnknownHandle: INTERRUPT_HANDLE,
        "interrupt handle is not one of this guest", "Completion Interrupt Handle",
        "request the handle again, it may have been revoked; otherwise the guest forges handles";
    /// The handle is another address space's.
    ForeignHandle: INTERRUPT_HANDLE,
        "interrupt handle belongs to another PASID", "Completion Interrupt Handle",
        "use a vector of this queue, or write the PASID into the vector's MSIXPERM entry";
    /// The completion record is not aligned to 32 bytes.
    RecordAlignment: RECORD_ALIGNMENT,
        "completion record misaligned", "Completion Record Address",
        "align completion records to 32 bytes";
    /// The completion record is in the window.
    RecordInWindow: RECORD_PAGE_FAULT,
        "completion record in memory of Weir", "Completion Record Address",
        "keep to the guest's RAM; a guest that does this on purpose is hostile";
    /// The completion record is not in the guest's RAM.
    RecordMemory: RECORD_PAGE_FAULT,
        "completion record not in guest memory", "Completion Record Address",
        "put completion records into the guest's RAM";
    /// An operand is in the window.
    OperandInWindow: HARDWARE_ERROR,
        "operand in memory of Weir", "address",
        "keep to the guest's RAM; a guest that does this on purpose is hostile";
    /// Priv, which the virtual device does not have.
    Privilege: PRIVILEGE,
        "privileged descriptor", "Priv",
        "submit with Priv = 0";
    /// A guest PASID that is not declared.
    UnknownPasid: TRANSLATION_ERROR,
        "guest PASID not declared", "PASID",
        "declare the PASID in weir.toml";
}
