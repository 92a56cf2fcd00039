//! The C interface, `emulator/qemu/dsa_model.h`, which has the contract of each
//! function.
//!
//! A caller in C cannot be trusted to keep Rust's aliasing rules: a DMA of the
//! device into its own BAR comes back in here while the model is at work. The
//! handle therefore remembers that it is busy and answers such accesses like an
//! absent device.
#![expect(unsafe_code, reason = "a C interface receives and calls raw pointers")]

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, c_char, c_int, c_void};

use crate::bus::{Bus, BusError, Requester, TransferError};
use crate::device::Dsa;
use crate::identity::Identity;
use crate::portal::{Answer, Transaction};

/// `DSA_MODEL_ABI` of the header that this file implements.
pub const ABI: u32 = 1;

/// `DSA_NO_PASID`: a DMA request that carries no PASID.
pub const NO_PASID: u32 = 0xffff_ffff;

const BUS_OK: u32 = 0;
const BUS_FAULT: u32 = 1;

type DmaRead = unsafe extern "C" fn(*mut c_void, u32, u32, u64, *mut u8, u64, *mut u64) -> u32;
type DmaWrite = unsafe extern "C" fn(*mut c_void, u32, u32, u64, *const u8, u64, *mut u64) -> u32;

/// `struct DsaModelBus`: the machine around the device.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CBus {
    opaque: *mut c_void,
    now_ns: unsafe extern "C" fn(*mut c_void) -> u64,
    dma_read: DmaRead,
    dma_write: DmaWrite,
    send_message: unsafe extern "C" fn(*mut c_void, u64, u32) -> u32,
}

fn bus_result(status: u32) -> Result<(), BusError> {
    match status {
        BUS_OK => Ok(()),
        BUS_FAULT => Err(BusError::PageFault),
        _ => Err(BusError::Aborted),
    }
}

fn transfer_result(status: u32, done: u64, length: usize) -> Result<(), TransferError> {
    let transferred = usize::try_from(done).unwrap_or(length).min(length);
    bus_result(status).map_err(|cause| TransferError { transferred, cause })
}

fn pasid_argument(requester: Requester) -> u32 {
    requester.pasid.map_or(NO_PASID, crate::bus::Pasid::get)
}

impl Bus for CBus {
    fn now_ns(&self) -> u64 {
        // SAFETY: `dsa_model_new` requires the callbacks and `opaque` to stay
        // valid as long as the model.
        unsafe { (self.now_ns)(self.opaque) }
    }

    fn read(
        &mut self,
        requester: Requester,
        address: u64,
        data: &mut [u8],
    ) -> Result<(), TransferError> {
        let mut done = 0;
        // SAFETY: as in `now_ns`; `data` is valid for writes of its length and
        // `done` for one write, both for the duration of the call.
        let status = unsafe {
            (self.dma_read)(
                self.opaque,
                pasid_argument(requester),
                requester.privileged.into(),
                address,
                data.as_mut_ptr(),
                data.len() as u64,
                &mut done,
            )
        };
        transfer_result(status, done, data.len())
    }

    fn write(
        &mut self,
        requester: Requester,
        address: u64,
        data: &[u8],
    ) -> Result<(), TransferError> {
        let mut done = 0;
        // SAFETY: as in `read`, with `data` valid for reads.
        let status = unsafe {
            (self.dma_write)(
                self.opaque,
                pasid_argument(requester),
                requester.privileged.into(),
                address,
                data.as_ptr(),
                data.len() as u64,
                &mut done,
            )
        };
        transfer_result(status, done, data.len())
    }

    fn send_message(&mut self, address: u64, data: u32) -> Result<(), BusError> {
        // SAFETY: as in `now_ns`.
        bus_result(unsafe { (self.send_message)(self.opaque, address, data) })
    }
}

/// `DsaModel`: what the C side holds a pointer to.
#[derive(Debug)]
pub struct Model {
    device: UnsafeCell<Dsa>,
    bus: CBus,
    busy: Cell<bool>,
}

impl Model {
    /// Runs `action` on the device, or returns `absent` if the model is already
    /// at work further up the stack.
    fn with<R>(&self, absent: R, action: impl FnOnce(&mut Dsa, &mut CBus) -> R) -> R {
        if self.busy.replace(true) {
            return absent;
        }
        // SAFETY: `busy` was clear, so no other reference into the cell exists:
        // this is the only place that makes one, and the caller keeps to one
        // thread at a time.
        let device = unsafe { &mut *self.device.get() };
        let result = action(device, &mut self.bus.clone());
        self.busy.set(false);
        result
    }
}

/// The model behind a pointer from C.
///
/// # Safety
/// `model` came from [`dsa_model_new`] and was not freed.
unsafe fn borrow<'a>(model: *const Model) -> &'a Model {
    // SAFETY: the caller's promise; `Model` is only ever shared.
    unsafe { &*model }
}

/// Copies `text` and a NUL into a buffer, cut to what fits.
///
/// # Safety
/// `buffer` is null or valid for writes of `length` bytes.
unsafe fn copy_text(text: &str, buffer: *mut c_char, length: usize) {
    if buffer.is_null() || length == 0 {
        return;
    }
    let bytes = text.len().min(length - 1);
    // SAFETY: `bytes < length`, and the caller vouches for the buffer.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast::<c_char>(), buffer, bytes) };
    // SAFETY: as above.
    let end = unsafe { buffer.add(bytes) };
    // SAFETY: as above.
    unsafe { end.write(0) };
}

/// The text behind a C string; what is not UTF-8 is replaced.
///
/// # Safety
/// `text` is null or a NUL-terminated string.
unsafe fn text_argument(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// See `dsa_model.h`.
#[unsafe(no_mangle)]
pub extern "C" fn dsa_model_abi() -> u32 {
    ABI
}

/// See `dsa_model.h`.
///
/// # Safety
/// `options` is a C string, `bus` points to a bus whose members stay valid as
/// long as the model, `error` is valid for writes of `error_length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_new(
    options: *const c_char,
    bus: *const CBus,
    error: *mut c_char,
    error_length: usize,
) -> *mut Model {
    // SAFETY: the caller's promise.
    let options = unsafe { text_argument(options) };
    match Identity::parse(&options).and_then(Dsa::new) {
        Ok(device) => {
            // SAFETY: the caller's promise.
            let bus = unsafe { *bus };
            let device = UnsafeCell::new(device);
            Box::into_raw(Box::new(Model {
                device,
                bus,
                busy: Cell::new(false),
            }))
        }
        Err(refusal) => {
            // SAFETY: the caller's promise.
            unsafe { copy_text(&refusal.to_string(), error, error_length) };
            std::ptr::null_mut()
        }
    }
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` is null, or came from [`dsa_model_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_free(model: *mut Model) {
    if !model.is_null() {
        // SAFETY: the caller's promise: it came from `Box::into_raw`.
        drop(unsafe { Box::from_raw(model) });
    }
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` came from [`dsa_model_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_reset(model: *mut Model) {
    // SAFETY: the caller's promise.
    unsafe { borrow(model) }.with((), |device, _| device.reset());
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` came from [`dsa_model_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_config_read(model: *mut Model, offset: u32, size: u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { borrow(model) }.with(u32::MAX, |device, _| {
        device.config_read(offset as usize, size as usize)
    })
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` came from [`dsa_model_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_config_write(
    model: *mut Model,
    offset: u32,
    size: u32,
    value: u32,
) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { borrow(model) }.with(0, |device, bus| {
        device
            .config_write(offset as usize, size as usize, value, bus)
            .into()
    })
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` came from [`dsa_model_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_bar_size(model: *const Model, bar: u32) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { borrow(model) }.with(0, |device, _| device.bar_bytes(bar))
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` came from [`dsa_model_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_mmio_read(
    model: *mut Model,
    bar: u32,
    offset: u64,
    size: u32,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { borrow(model) }.with(u64::MAX, |device, _| device.mmio_read(bar, offset, size))
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` came from [`dsa_model_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_mmio_write(
    model: *mut Model,
    bar: u32,
    offset: u64,
    size: u32,
    value: u64,
) {
    // SAFETY: the caller's promise.
    unsafe { borrow(model) }.with((), |device, bus| {
        device.mmio_write(bar, offset, size, value, bus)
    });
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` came from [`dsa_model_new`]; `data` is valid for reads of 64 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_portal_write(
    model: *mut Model,
    bar: u32,
    offset: u64,
    data: *const [u8; 64],
    non_posted: u32,
) -> u32 {
    // SAFETY: the caller's promise.
    let data = unsafe { data.read_unaligned() };
    let transaction = if non_posted == 0 {
        Transaction::Posted
    } else {
        Transaction::Deferrable
    };
    // SAFETY: the caller's promise.
    let answer = unsafe { borrow(model) }.with(
        if non_posted == 0 {
            Answer::Success
        } else {
            Answer::Retry
        },
        |device, bus| device.portal_write(bar, offset, &data, transaction, bus),
    );
    u32::from(answer == Answer::Retry)
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` came from [`dsa_model_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_deadline(model: *const Model) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { borrow(model) }.with(u64::MAX, |device, _| device.deadline().unwrap_or(u64::MAX))
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` came from [`dsa_model_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_advance(model: *mut Model) {
    // SAFETY: the caller's promise.
    unsafe { borrow(model) }.with((), |device, bus| device.advance(bus));
}

/// See `dsa_model.h`.
///
/// # Safety
/// `model` came from [`dsa_model_new`]; `command` is a C string; `reply` is
/// valid for writes of `reply_length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsa_model_control(
    model: *mut Model,
    command: *const c_char,
    reply: *mut c_char,
    reply_length: usize,
) -> c_int {
    // SAFETY: the caller's promise.
    let command = unsafe { text_argument(command) };
    let busy = Err("the device is at work".to_owned());
    // SAFETY: the caller's promise.
    let answer = unsafe { borrow(model) }.with(busy, |device, bus| device.control(&command, bus));
    let (status, text) = match answer {
        Ok(text) => (0, text),
        Err(text) => (-1, text),
    };
    // SAFETY: the caller's promise.
    unsafe { copy_text(&text, reply, reply_length) };
    status
}
