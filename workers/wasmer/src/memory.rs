//! The guest's memory. It is ours, not Wasmer's, for two reasons: code that LLVM makes checks no bounds at all, so that
//! every address that an instruction can name has to be set aside, of which Wasmer leaves out a quarter; and the pages that
//! one guest has used are cleared for the next one, which costs less than new pages do.

use std::cell::UnsafeCell;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use remuda_worker::MemoryType;
use wasmer::{MemoryError, Pages};
use wasmer_vm::{LinearMemory, MemoryStyle, VMMemoryDefinition};

/// The addresses that are set aside for a memory: an index and an offset of 32 bits each, and the largest value.
const ADDRESSES: usize = (8 << 30) + PAGE_BYTES;

/// The most pages of a memory, and how many of the addresses are within them.
const PAGES_MAX: u32 = 1 << 16;
const GUARD_BYTES: u64 = (ADDRESSES - (4 << 30)) as u64;

/// The size of WebAssembly's pages, and of the kernel's.
const PAGE_BYTES: usize = 64 << 10;
const SYSTEM_PAGE_BYTES: usize = 4 << 10;

/// The most bytes that are kept for the next guest. Clearing a page costs a fifth of what a new one does; but until there is
/// a next guest, it is memory that nobody uses.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// What the last guest has left.
static LEFT: Mutex<Option<Mapping>> = Mutex::new(None);

/// Addresses, of which the first may be used. What may be used is zero unless somebody has written to it.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    /// The bytes that may be used.
    usable: usize,
}

// SAFETY: the addresses belong to whoever has the mapping.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, wherever there is room for it.
        let base = unsafe { libc::mmap(ptr::null_mut(), ADDRESSES, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("no mapping begins at 0");
        Ok(Self { base, usable: 0 })
    }

    /// Sets how many bytes may be used.
    fn set_usable(&mut self, bytes: usize) -> io::Result<()> {
        let protect = |from: usize, to: usize, protection| {
            // SAFETY: this is a part of the mapping, and nothing of ours refers to what loses its use.
            match unsafe { libc::mprotect(self.base.as_ptr().add(from).cast(), to - from, protection) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        if bytes > self.usable {
            protect(self.usable, bytes, libc::PROT_READ | libc::PROT_WRITE)?;
        } else if bytes < self.usable {
            protect(bytes, self.usable, libc::PROT_NONE)?;
        }
        self.usable = bytes;
        Ok(())
    }

    /// Makes all bytes zero.
    fn clear(&mut self) -> io::Result<()> {
        let mut is_present = vec![0_u8; self.usable / SYSTEM_PAGE_BYTES];
        // SAFETY: the mapping has that many bytes, and the vector one for each of their pages.
        let told = unsafe { libc::mincore(self.base.as_ptr().cast(), self.usable, is_present.as_mut_ptr()) };
        let present = is_present.iter().filter(|present| **present & 1 != 0).count();
        if told != 0 || present * SYSTEM_PAGE_BYTES > KEPT_BYTES_MAX {
            return give_back(self.base.as_ptr(), self.usable);
        }
        for run in is_present.chunk_by(|one, other| (one ^ other) & 1 == 0) {
            let at = run.as_ptr().addr() - is_present.as_ptr().addr();
            let bytes = run.len() * SYSTEM_PAGE_BYTES;
            // SAFETY: the pages are within what may be used.
            let pages = unsafe { self.base.as_ptr().add(at * SYSTEM_PAGE_BYTES) };
            if run[0] & 1 != 0 {
                // SAFETY: as above.
                unsafe { pages.write_bytes(0, bytes) };
            } else {
                // A page that is not present may have been written to, too, and be in the swap space.
                give_back(pages, bytes)?;
            }
        }
        Ok(())
    }
}

/// Gives pages of a mapping back to the kernel: they are zero when they are used next.
fn give_back(pages: *mut u8, bytes: usize) -> io::Result<()> {
    // SAFETY: the pages are the caller's own, and nothing of ours refers to what is in them.
    match unsafe { libc::madvise(pages.cast(), bytes, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping, and nobody uses it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), ADDRESSES) };
    }
}

/// A guest's memory.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    /// `None` only while the memory is dropped.
    mapping: Option<Mapping>,
    pages: Pages,
    maximum: Pages,
    /// What the guest's code knows of it. It stays where it is.
    definition: Box<UnsafeCell<VMMemoryDefinition>>,
}

impl GuestMemory {
    pub(crate) fn new(ty: MemoryType) -> io::Result<Self> {
        let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut mapping = left.map_or_else(Mapping::new, Ok)?;
        let pages = Pages(ty.initial_pages);
        mapping.set_usable(pages.bytes().0)?;
        let definition = VMMemoryDefinition { base: mapping.base.as_ptr(), current_length: mapping.usable };
        Ok(Self {
            mapping: Some(mapping),
            pages,
            maximum: Pages(ty.maximum_pages),
            definition: Box::new(UnsafeCell::new(definition)),
        })
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        let Some(mut mapping) = self.mapping.take() else { return };
        if mapping.clear().is_ok() {
            *LEFT.lock().unwrap_or_else(PoisonError::into_inner) = Some(mapping);
        }
    }
}

/// How code is to be made for such a memory: it need not check any bounds.
pub(crate) const STYLE: MemoryStyle = MemoryStyle::Static { bound: Pages(PAGES_MAX), offset_guard_size: GUARD_BYTES };

impl LinearMemory for GuestMemory {
    fn ty(&self) -> wasmer::MemoryType {
        wasmer::MemoryType::new(self.pages, Some(self.maximum), false)
    }

    fn size(&self) -> Pages {
        self.pages
    }

    fn style(&self) -> MemoryStyle {
        STYLE
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let before = self.pages;
        let refused = MemoryError::CouldNotGrow { current: before, attempted_delta: delta };
        let Some(pages) = before.checked_add(delta).filter(|pages| *pages <= self.maximum) else { return Err(refused) };
        let mapping = self.mapping.as_mut().expect("it is there until the memory is dropped");
        mapping.set_usable(pages.bytes().0).map_err(|_| refused)?;
        self.pages = pages;
        // SAFETY: the guest's code does not run meanwhile, and nobody else knows of this.
        unsafe { (*self.definition.get()).current_length = mapping.usable };
        Ok(before)
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        NonNull::new(self.definition.get()).expect("a box is not at 0")
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + 'static>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }

    fn copy(&mut self) -> Result<Box<dyn LinearMemory + 'static>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }
}
