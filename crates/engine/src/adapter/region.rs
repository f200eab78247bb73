//! A guest's memory that two engines can have at the same time: addresses that the host reserves.

use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU8;
use std::sync::{Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

/// What compiled code may reach beyond a memory's addresses without a check of its own: Wasmtime's default.
pub(crate) const GUARD_BYTES: usize = 32 << 20;
/// WebAssembly's; no machine has larger ones.
pub(crate) const PAGE_BYTES: usize = 64 << 10;
/// Regions that are kept for the next guests, because mapping one and touching its pages for the first time takes longer
/// than a short guest. Each keeps as much memory as most guests use; together that is at most 64 MiB.
const IDLE_MAX: usize = 16;
const IDLE_BYTES_MAX: usize = 4 << 20;

/// Addresses for one memory. They never move; what of them can be accessed is all within the guest's limit as long as an
/// interpreter has the memory for itself, since it checks every access, and only the memory's size once compiled code has
/// it, too.
///
/// What is there at first may be another guest's: whoever makes it part of a memory clears it. Wasmi does, whenever a
/// memory is made or grows.
pub(crate) struct Region {
    /// `None` only while it is dropped.
    mapping: Option<Mapping>,
    /// What an interpreter may be given, in bytes.
    capacity: usize,
    /// Bytes that can be accessed.
    accessible: Mutex<usize>,
}

static IDLE: Mutex<Vec<(Mapping, usize)>> = Mutex::new(Vec::new());

impl Region {
    /// As many as a memory of 32 bits has.
    pub(crate) const ADDRESSES: usize = 4 << 30;

    /// Addresses of which `bytes_max` can be accessed.
    pub(crate) fn new(bytes_max: u64) -> io::Result<Self> {
        let capacity = usize::try_from(bytes_max).unwrap_or(Self::ADDRESSES);
        let capacity = capacity.min(Self::ADDRESSES).next_multiple_of(PAGE_BYTES);
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
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

    /// A byte that code may read while others write it here: none of those that are read and written by the functions below.
    pub(crate) fn flag(&self, at: usize) -> &AtomicU8 {
        assert!(at < self.capacity, "flags are within the region");
        // SAFETY: the byte can be accessed, since a region is not confined to less than its memory, which has it. Those who
        // have the region access it by machine code or as here.
        unsafe { AtomicU8::from_ptr(self.base().as_ptr().add(at)) }
    }

    /// Reads what code has written to the beginning of its memory. Only for the thread that runs that code.
    pub(crate) fn read(&self, bytes: &mut [u8]) {
        assert!(bytes.len() <= self.capacity, "what is read is within the region");
        // SAFETY: the bytes can be accessed, as above; nobody writes them meanwhile, since who would is the caller's thread.
        unsafe { self.base().as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Writes what code is to read at the beginning of its memory. Only for the thread that runs that code.
    pub(crate) fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.capacity, "what is written is within the region");
        // SAFETY: as above.
        unsafe { self.base().as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Makes sure that at least the first `bytes` can be accessed.
    pub(crate) fn make_accessible(&self, bytes: usize) -> io::Result<()> {
        let mut accessible = self.accessible.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > Self::ADDRESSES {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if bytes > *accessible {
            self.mapping().protect(*accessible, bytes, MprotectFlags::READ | MprotectFlags::WRITE)?;
            *accessible = bytes;
        }
        Ok(())
    }

    /// Makes sure that nothing beyond the first `bytes` can be accessed: compiled code relies on it.
    pub(crate) fn confine(&self, bytes: usize) -> io::Result<()> {
        let mut accessible = self.accessible.lock().unwrap_or_else(PoisonError::into_inner);
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
        let accessible = *self.accessible.get_mut().unwrap_or_else(PoisonError::into_inner);
        // What cannot be accessed now may have been used before it was confined.
        let used = self.capacity.max(accessible);
        if used > IDLE_BYTES_MAX && mapping.give_back(IDLE_BYTES_MAX, used).is_err() {
            return;
        }
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push((mapping, accessible));
        }
    }
}

/// Reserved addresses, and their guard.
struct Mapping(NonNull<u8>);

// SAFETY: the addresses are the mapping's own until it is dropped, and what may be done with them is up to who is handed
// `Region::base`, from whatever thread.
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

    /// Both ends are multiples of [`PAGE_BYTES`].
    fn protect(&self, from: usize, to: usize, flags: MprotectFlags) -> io::Result<()> {
        // SAFETY: the range is within the mapping. Access is only taken away from what is beyond the memory's end, which
        // an interpreter does not access; compiled code that does is to get a trap.
        unsafe { Ok(rustix::mm::mprotect(self.at(from), to - from, flags)?) }
    }

    /// Gives memory back to the operating system; it is zero when it is next accessed.
    fn give_back(&self, from: usize, to: usize) -> io::Result<()> {
        // SAFETY: the range is within the mapping, and nobody has the region any more.
        unsafe { Ok(rustix::mm::madvise(self.at(from), to - from, Advice::LinuxDontNeed)?) }
    }

    fn at(&self, offset: usize) -> *mut c_void {
        self.0.as_ptr().wrapping_add(offset).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: who has the region as its memory holds on to it, so nobody has any more. An error would mean that it is no
        // mapping, which `new` rules out.
        let _ = unsafe { rustix::mm::munmap(self.at(0), Self::BYTES) };
    }
}
