//! Memory of a guest that two engines can use at the same time, at addresses that the host reserves.

use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU8;

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

/// How many bytes beyond a memory's addresses compiled code may reach without a check of its own: Wasmtime's default.
pub(crate) const GUARD_BYTES: usize = 32 << 20;
/// The size of a WebAssembly page, in bytes; no machine has larger pages.
pub(crate) const PAGE_BYTES: usize = 64 << 10;
/// The most mappings that are kept for the next guests. They are kept because mapping one, and touching its pages for
/// the first time, takes longer than a short guest runs.
const IDLE_MAX: usize = 16;
/// The most memory that each of these keeps, in bytes: as much as most guests use. Together that is at most 64 MiB.
const IDLE_BYTES_MAX: usize = 4 << 20;

/// Addresses for one memory. They never move. As long as an interpreter has the memory for itself, everything within
/// the guest's limit can be accessed, since the interpreter checks every access. Once compiled code has the memory,
/// too, only the memory's current size can be accessed.
///
/// At first a region may still hold the data of an earlier guest, so that an engine that makes bytes part of a memory
/// has to clear them. Wasmi does so whenever a memory is made or grows.
pub(crate) struct Region {
    /// `None` only while the region is dropped.
    mapping: Option<Mapping>,
    /// The size of the memory that an interpreter may be given, in bytes.
    capacity: usize,
    /// How many bytes can be accessed, from the base on.
    accessible: Mutex<usize>,
}

/// Mappings kept for the next guests, each with the number of its bytes that can be accessed.
static IDLE: Mutex<Vec<(Mapping, usize)>> = Mutex::new(Vec::new());

impl Region {
    /// The size of a region's address range, in bytes: as many addresses as a 32-bit memory can have.
    pub(crate) const ADDRESSES: usize = 4 << 30;

    /// Makes a region of which `bytes_max` bytes can be accessed.
    pub(crate) fn new(bytes_max: u64) -> io::Result<Self> {
        let capacity = usize::try_from(bytes_max).unwrap_or(Self::ADDRESSES);
        let capacity = capacity.min(Self::ADDRESSES).next_multiple_of(PAGE_BYTES);
        let idle = IDLE.lock().pop();
        let (mapping, accessible) = match idle {
            Some(idle) => idle,
            None => (Mapping::new()?, 0),
        };
        let region = Self { mapping: Some(mapping), capacity, accessible: Mutex::new(accessible) };
        region.make_accessible(capacity)?;
        Ok(region)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.mapping().0
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    fn mapping(&self) -> &Mapping {
        self.mapping.as_ref().expect("a region has its addresses until it is dropped")
    }

    /// A byte that code may read while other threads write it here. It must be none of the bytes that [`Region::read`]
    /// and [`Region::write`] touch.
    pub(crate) fn flag(&self, at: usize) -> &AtomicU8 {
        assert!(at < self.capacity, "flags are within the region");
        // SAFETY: the byte can be accessed: it is within the memory, and a region is never confined to less than its
        // memory. All code that has the region accesses the byte by machine instructions or as here.
        unsafe { AtomicU8::from_ptr(self.base().as_ptr().add(at)) }
    }

    /// Reads what code has written to the beginning of its memory. Only the thread that runs that code may call this.
    pub(crate) fn read(&self, bytes: &mut [u8]) {
        assert!(bytes.len() <= self.capacity, "what is read is within the region");
        // SAFETY: the bytes can be accessed, as above; nothing writes them meanwhile, since only code on the caller's
        // own thread does.
        unsafe { self.base().as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Writes what code is to read at the beginning of its memory. Only the thread that runs that code may call this.
    pub(crate) fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.capacity, "what is written is within the region");
        // SAFETY: as above.
        unsafe { self.base().as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// The first `bytes`, for a region whose base no code has been given.
    #[cfg(feature = "worker")]
    pub(crate) fn bytes_mut(&mut self, bytes: usize) -> &mut [u8] {
        assert!(bytes <= self.capacity, "what is used is within the region");
        // SAFETY: the bytes can be accessed, as above. All code that was given the base shares the region, so that a
        // region that is borrowed mutably has no such code; and bytes of any value are valid.
        unsafe { std::slice::from_raw_parts_mut(self.base().as_ptr(), bytes) }
    }

    /// Sets all bytes to zero.
    #[cfg(feature = "worker")]
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.mapping().give_back(0, self.capacity)
    }

    /// Makes sure that at least the first `bytes` can be accessed.
    pub(crate) fn make_accessible(&self, bytes: usize) -> io::Result<()> {
        let mut accessible = self.accessible.lock();
        if bytes > Self::ADDRESSES {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if bytes > *accessible {
            self.mapping().protect(*accessible, bytes, MprotectFlags::READ | MprotectFlags::WRITE)?;
            *accessible = bytes;
        }
        Ok(())
    }

    /// Makes sure that nothing beyond the first `bytes` can be accessed: compiled code relies on a fault there.
    pub(crate) fn confine(&self, bytes: usize) -> io::Result<()> {
        let mut accessible = self.accessible.lock();
        if bytes < *accessible {
            self.mapping().protect(bytes, *accessible, MprotectFlags::empty())?;
            *accessible = bytes;
        }
        Ok(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else { return };
        let accessible = *self.accessible.get_mut();
        // Bytes that cannot be accessed now may have been used before the region was confined.
        let used = self.capacity.max(accessible);
        if used > IDLE_BYTES_MAX && mapping.give_back(IDLE_BYTES_MAX, used).is_err() {
            return;
        }
        let mut idle = IDLE.lock();
        if idle.len() < IDLE_MAX {
            idle.push((mapping, accessible));
        }
    }
}

/// Reserved addresses and the guard behind them, by their first address.
struct Mapping(NonNull<u8>);

// SAFETY: the addresses belong to the mapping until it is dropped, and the code that is given `Region::base` is itself
// responsible for what it does with them, on whatever thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    const BYTES: usize = Region::ADDRESSES + GUARD_BYTES;

    fn new() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), Self::BYTES, ProtFlags::empty(), flags)? };
        NonNull::new(base.cast()).map(Self).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Sets what can be done with the addresses between two offsets, both multiples of [`PAGE_BYTES`].
    fn protect(&self, from: usize, to: usize, flags: MprotectFlags) -> io::Result<()> {
        // SAFETY: the range is within the mapping. Access is only taken away from bytes beyond the memory's end. An
        // interpreter does not access those; compiled code that does is meant to trap.
        unsafe { Ok(rustix::mm::mprotect(self.at(from), to - from, flags)?) }
    }

    /// Gives the memory between two offsets back to the operating system; it is zero when it is next accessed.
    fn give_back(&self, from: usize, to: usize) -> io::Result<()> {
        // SAFETY: the range is within the mapping, and nothing uses the region any more.
        unsafe { Ok(rustix::mm::madvise(self.at(from), to - from, Advice::LinuxDontNeed)?) }
    }

    fn at(&self, offset: usize) -> *mut c_void {
        self.0.as_ptr().wrapping_add(offset).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: every user of the region's memory holds on to the region, so none is left. An error would mean that
        // this is no mapping, which `new` rules out.
        let _ = unsafe { rustix::mm::munmap(self.at(0), Self::BYTES) };
    }
}
