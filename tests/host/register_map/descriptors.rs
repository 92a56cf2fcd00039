//! What is in memory: descriptors and completion records.

use dsa_model::completion::{Outcome, PageFault};
use dsa_model::{completion, descriptor};
use hwspec::dsa::{
    CompletionRecord, Descriptor, DescriptorWord0, DescriptorWord4, Flags, Operand, Operation,
    Status,
};

fn bytes(descriptor: &Descriptor) -> descriptor::Descriptor {
    let mut bytes = [0; Descriptor::SIZE];
    for (place, word) in bytes.chunks_exact_mut(8).zip(descriptor.words()) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    descriptor::Descriptor::from_bytes(bytes)
}

#[test]
fn fields_of_a_descriptor() {
    let written = Descriptor {
        word0: DescriptorWord0::new()
            .with_pasid(0x9_8765)
            .with_privileged(true)
            .with_flags(Flags::from_bits(0x0a_5a5a))
            .with_operation(Operation::COPY_CRC),
        completion_record_address: 0x0123_4567_89ab_cde0,
        word2: 0x1111_2222_3333_4444,
        word3: 0x5555_6666_7777_8888,
        word4: DescriptorWord4::new()
            .with_transfer_size(0x8765_4321)
            .with_interrupt_handle(0xabcd),
        ..Descriptor::default()
    };
    let read = bytes(&written);
    assert_eq!(read.pasid().get(), 0x9_8765);
    assert!(read.is_privileged());
    assert_eq!(read.flags().bits(), 0x0a_5a5a);
    assert_eq!(read.opcode(), descriptor::Opcode::COPY_WITH_CRC);
    assert_eq!(read.completion_address(), written.completion_record_address);
    assert_eq!(
        (read.source(), read.destination()),
        (written.word2, written.word3)
    );
    assert_eq!(read.descriptor_list_address(), written.word2);
    assert_eq!(read.transfer_size(), 0x8765_4321);
    assert_eq!(read.descriptor_count(), 0x8765_4321);
    assert_eq!(read.interrupt_handle(), 0xabcd);

    let unprivileged = Descriptor {
        word0: written.word0.with_privileged(false),
        ..written
    };
    assert!(!bytes(&unprivileged).is_privileged());
    assert_eq!(Descriptor::from_words(written.words()), written);
}

#[test]
fn flags_of_a_descriptor() {
    use descriptor::Flags as Model;
    let none = Flags::new();
    for (flag, model) in [
        (none.with_fence(true), Model::FENCE),
        (none.with_block_on_fault(true), Model::BLOCK_ON_FAULT),
        (
            none.with_completion_record_address_valid(true),
            Model::COMPLETION_ADDRESS_VALID,
        ),
        (
            none.with_request_completion_record(true),
            Model::REQUEST_COMPLETION_RECORD,
        ),
        (
            none.with_request_completion_interrupt(true),
            Model::REQUEST_COMPLETION_INTERRUPT,
        ),
        (none.with_cache_control_3(true), Model::CACHE_CONTROL_3),
        (none.with_check_result(true), Model::CHECK_RESULT),
        (none.with_cache_control_1(true), Model::CACHE_CONTROL_1),
        (none.with_address_1_tc(true), Model::ADDRESS_1_TC),
        (none.with_address_2_tc(true), Model::ADDRESS_2_TC),
        (none.with_address_3_tc(true), Model::ADDRESS_3_TC),
        (
            none.with_completion_record_tc(true),
            Model::COMPLETION_RECORD_TC,
        ),
        (none.with_strict_ordering(true), Model::STRICT_ORDERING),
        (none.with_cache_control_2(true), Model::CACHE_CONTROL_2),
        (Flags::BATCH_ERROR, Model::BATCH_ERROR),
        (Flags::DRAIN_READBACK_1, Model::READBACK_ADDRESS_1_VALID),
        (Flags::DRAIN_READBACK_2, Model::READBACK_ADDRESS_2_VALID),
        (Flags::FILL_PATTERN_16, Model::PATTERN_SIZE),
        (Flags::FETCH_USE_STRIDE, Model::USE_STRIDE),
        (Flags::CRC_READ_SEED, Model::READ_CRC_SEED),
        (
            Flags::CRC_BYPASS_INVERSION,
            Model::BYPASS_CRC_INVERSION_AND_REFLECTION,
        ),
        (Flags::CRC_BYPASS_REFLECTION, Model::BYPASS_DATA_REFLECTION),
        (Flags::CRC_64, Model::CRC_SIZE),
    ] {
        assert_eq!(flag.into_bits(), model.bits());
    }
    assert_eq!(none.with_operation_specific(0xff).into_bits(), 0xff_0000);
}

#[test]
fn fields_of_a_completion_record() {
    let fault = PageFault {
        address: 0x1234_5678_9abc_d000,
        write: true,
        operand: completion::Operand::DESTINATION_2,
    };
    let outcome = Outcome {
        status: completion::Status::PAGE_FAULT,
        result: 0x5a,
        bytes_completed: 0x8765_4321,
        fault: Some(fault),
        tail: *b"0123456789abcdef",
    };
    let bytes = outcome.record(true);
    assert_eq!(bytes.len(), CompletionRecord::SIZE);
    let word = |index: usize| u64::from_le_bytes(bytes[8 * index..][..8].try_into().unwrap());
    let record = CompletionRecord::from_words([word(0), word(1), word(2), word(3)]);
    assert_eq!(record.word0.status(), Status::PAGE_FAULT);
    assert!(record.word0.write());
    assert_eq!(record.word0.result(), 0x5a);
    assert_eq!(record.word0.fault_info().operand(), Operand::DESTINATION2);
    assert_eq!(record.word0.bytes_completed(), 0x8765_4321);
    assert_eq!(record.fault_address, fault.address);
    assert_eq!(record.word2.to_le_bytes(), *b"01234567");
    assert_eq!(record.word3.to_le_bytes(), *b"89abcdef");
}

#[test]
fn operands_of_a_fault() {
    use completion::Operand as Model;
    for (operand, model) in [
        (Operand::SOURCE, Model::SOURCE),
        (Operand::SOURCE2, Model::SOURCE_2),
        (Operand::DESTINATION, Model::DESTINATION),
        (Operand::DESTINATION2, Model::DESTINATION_2),
        (Operand::COMPLETION_RECORD, Model::COMPLETION_RECORD),
    ] {
        assert_eq!(operand.0, model.0);
    }
}
