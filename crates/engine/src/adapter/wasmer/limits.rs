//! Keeping memory, tables and stack within a request's limits: Wasmer gets all three from an engine's tunables.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;
use remuda_model::ModuleLimits;
use wasmer::sys::Tunables;
use wasmer::{MemoryError, MemoryStyle, MemoryType, Pages, TableStyle, TableType};
use wasmer_vm::{LinearMemory, VMConfig, VMMemory, VMMemoryDefinition, VMOwnedMemory, VMTable, VMTableDefinition};

use crate::adapter::guest::Guest;

/// The host's side of a guest, for its WASI calls and for its memories.
pub(super) type SharedGuest = Arc<Mutex<Guest>>;

/// The number of elements by which the tables may still grow.
pub(super) fn table_elements_left(guest: &SharedGuest) -> u32 {
    u32::try_from(guest.lock().budget.table_elements_left).unwrap_or(u32::MAX)
}

/// The tunables of one store.
pub(super) struct Limits {
    guest: SharedGuest,
    config: VMConfig,
}

impl Limits {
    pub(super) fn new(guest: SharedGuest) -> Self {
        let stack_bytes = usize::try_from(ModuleLimits::STACK_BYTES).expect("half a megabyte fits an address");
        // Wasmer keeps stacks for later calls, whatever their size, so all stores ask for the same size.
        Self { guest, config: VMConfig { wasm_stack_size: Some(stack_bytes) } }
    }
}

impl Tunables for Limits {
    fn memory_style(&self, _: &MemoryType) -> MemoryStyle {
        MemoryStyle::Static
    }

    fn table_style(&self, _: &TableType) -> TableStyle {
        TableStyle::CallerChecksSignature
    }

    fn create_host_memory(&self, _: &MemoryType, _: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        Err(MemoryError::Generic("the host makes no memories for guests".into()))
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
        definition: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        if !self.guest.lock().budget.grant_memory(0, ty.minimum.bytes().0, None) {
            return Err(MemoryError::Generic("it is larger than the guest's limit".into()));
        }
        // SAFETY: Wasmer calls this with a definition in the instance that it is making, and that instance keeps the
        // memory.
        let memory = unsafe { VMOwnedMemory::from_definition(ty, style, definition) }?;
        Ok(VMMemory(Box::new(LimitedMemory { memory, guest: Arc::clone(&self.guest) })))
    }

    fn create_host_table(&self, _: &TableType, _: &TableStyle) -> Result<VMTable, String> {
        Err("the host makes no tables for guests".into())
    }

    /// Makes a table. A table does not ask before it grows; the code of its guest does (see `frame`). Its maximum,
    /// which is set here, is a second guard.
    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        definition: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        let mut guest = self.guest.lock();
        if !guest.budget.grant_table(0, ty.minimum as usize, None) {
            return Err("a table is larger than the guest's limit".into());
        }
        let left = u32::try_from(guest.budget.table_elements_left).unwrap_or(u32::MAX);
        let maximum = ty.minimum.saturating_add(left).min(ty.maximum.unwrap_or(u32::MAX));
        // SAFETY: Wasmer calls this with a definition in the instance that it is making, and that instance keeps the
        // table.
        unsafe { VMTable::from_definition(&TableType { maximum: Some(maximum), ..*ty }, style, definition) }
    }

    fn vmconfig(&self) -> &VMConfig {
        &self.config
    }
}

/// A memory that asks the guest's budget before it grows.
struct LimitedMemory {
    memory: VMOwnedMemory,
    guest: SharedGuest,
}

impl fmt::Debug for LimitedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.memory.fmt(f)
    }
}

impl LinearMemory for LimitedMemory {
    fn ty(&self) -> MemoryType {
        self.memory.ty()
    }

    fn size(&self) -> Pages {
        self.memory.size()
    }

    fn style(&self) -> MemoryStyle {
        self.memory.style()
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let current = self.memory.size();
        let desired_bytes = current.bytes().0.saturating_add(delta.bytes().0);
        let maximum = self.memory.ty().maximum.unwrap_or(Pages::max_value()).min(Pages::max_value());
        if !self.guest.lock().budget.grant_memory(current.bytes().0, desired_bytes, Some(maximum.bytes().0)) {
            return Err(MemoryError::CouldNotGrow { current, attempted_delta: delta });
        }
        self.memory.grow(delta)
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.memory.vmmemory()
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync>, MemoryError> {
        Err(MemoryError::UnsupportedOperation { message: "a guest's memory is not copied".into() })
    }
}
