//! Puts the object file that Lucet's compiler makes into memory, which is otherwise the work of a linker that writes a
//! shared library and of one that loads it: a worker may use neither files nor other programs.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ops::Range;
use std::{io, ptr, slice};

use lucet_module::{
    FunctionHandle, FunctionIndex, FunctionPointer, FunctionSpec, GlobalSpec, HeapSpec, LUCET_MODULE_SYM, ModuleData,
    SerializedModule, Signature, TableElement, TrapCode,
};
use lucet_runtime_internals::error::Error;
use lucet_runtime_internals::module::{AddrDetails, Module, ModuleInternal};
use object::elf::{
    R_X86_64_64, R_X86_64_GOTPCREL, R_X86_64_GOTPCRELX, R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_REX_GOTPCRELX,
};
use object::read::elf::ElfFile64;
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget, SectionFlags, SymbolIndex,
};
use remuda_worker::MachineCode;

use crate::PAGE_BYTES;
use crate::calls;
use crate::lower::{Builtin, Plan, Table, exported};

/// The names that Lucet gives to the table, to the list with its length, and to the start function.
const TABLE: &str = "guest_table_0";
const TABLES: &str = "lucet_tables";
const START: &str = "guest_start";

/// The least alignment of a section in bytes: what is in there has at most this one, although the file does not say so.
const ALIGN_MIN: usize = 16;

/// What an element of the table is to Lucet's code: the number of the function's type, and its address.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    ty: u64,
    function: u64,
}

/// An element without a function. No function is of this type.
const NULL: Entry = Entry { ty: u64::MAX, function: 0 };

/// A module in memory.
pub(crate) struct Loaded {
    pub(crate) plan: Plan,
    /// The parts of the mapping: code, data that nobody changes, and the table and its length.
    image: Image,
    data: ModuleData<'static>,
    functions: &'static [FunctionSpec],
    start: Option<FunctionPointer>,
    exports: HashMap<String, FunctionIndex>,
    /// Where the elements are that the guest sees.
    table: *mut Entry,
    /// These elements, as they are at first; empty if the guest cannot change them.
    first: Vec<Entry>,
    /// The elements of the passive segments, one after the other.
    passive: Vec<Entry>,
}

// SAFETY: the pointers are to the image, which belongs to the module. A worker has one thread that runs guests.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

/// A mapping.
struct Image {
    base: *mut u8,
    bytes: usize,
}

impl Image {
    fn new(bytes: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, wherever there is room for it.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { base: base.cast(), bytes }) }
    }

    fn address(&self, at: usize) -> u64 {
        (self.base.addr() + at) as u64
    }

    /// Where something is that the compiler has put there.
    fn pointer<T>(&self, at: usize) -> Result<*mut T, String> {
        let pointer = self.base.wrapping_add(at).cast::<T>();
        if at < self.bytes && pointer.is_aligned() {
            Ok(pointer)
        } else {
            Err("something is at no place for it".to_owned())
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.bytes, "everything has room in the image");
        // SAFETY: the mapping has these bytes, and nothing refers to them yet.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(at), bytes.len()) };
    }

    fn protect(&self, range: &Range<usize>, protection: i32) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        // SAFETY: these are whole pages of the mapping, which are read only from here on.
        match unsafe { libc::mprotect(self.base.add(range.start).cast(), range.len(), protection) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping, and a module that is dropped has no instances.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

impl Loaded {
    /// Loads an object file.
    pub(crate) fn new(object: &[u8], plan: Plan) -> Result<Self, String> {
        let file =
            ElfFile64::<object::Endianness>::parse(object).map_err(|error| format!("no object file: {error}"))?;
        let layout = Layout::of(&file, &plan.table)?;
        let mut image = Image::new(layout.bytes).map_err(|error| error.to_string())?;
        layout.fill(&mut image, &file)?;

        let places = layout.places;
        let at = |name: &str| places.get(name).copied();
        let table = at(TABLE).map_or(Ok(ptr::null_mut()), |at| image.pointer::<Entry>(at))?;
        let (first, passive) = if table.is_null() {
            (Vec::new(), Vec::new())
        } else {
            // SAFETY: the layout has made room for all elements of both, and nobody else knows of them yet.
            unsafe { split_table(table, &plan.table) }
        };
        if let Some(list) = at(TABLES).filter(|_| !table.is_null()) {
            // The length comes after the address.
            image.write(list + size_of::<u64>(), &u64::from(plan.table.elements).to_le_bytes());
        }
        image.protect(&layout.code, libc::PROT_READ | libc::PROT_EXEC).map_err(|error| error.to_string())?;
        image.protect(&layout.constant, libc::PROT_READ).map_err(|error| error.to_string())?;

        let header = at(LUCET_MODULE_SYM).ok_or("it is not an object file of Lucet's compiler")?;
        // SAFETY: the compiler has put this structure there, and the image lives as long as the module.
        let header = unsafe { &*image.pointer::<SerializedModule>(header)? };
        let size = |n: u64| usize::try_from(n).expect("addresses have 64 bits");
        // SAFETY: the structure says where its parts are, in the same image.
        let (data, functions) = unsafe {
            (
                slice::from_raw_parts(size(header.module_data_ptr) as *const u8, size(header.module_data_len)),
                slice::from_raw_parts(
                    size(header.function_manifest_ptr) as *const FunctionSpec,
                    size(header.function_manifest_len),
                ),
            )
        };
        let data = ModuleData::deserialize(data).map_err(|error| error.to_string())?;
        let start = match at(START) {
            // SAFETY: the compiler puts the address of the function there.
            Some(at) => Some(FunctionPointer::from_usize(unsafe { *image.pointer::<usize>(at)? })),
            None => None,
        };
        let exports = plan.exports.iter().enumerate().map(|(position, name)| {
            let index =
                data.get_export_func_id(&exported(position)).ok_or_else(|| format!("{name:?} is not exported"))?;
            Ok((name.clone(), index))
        });
        let exports = exports.collect::<Result<_, String>>()?;
        Ok(Self { plan, image, data, functions, start, exports, table, first, passive })
    }

    /// The code of the functions that the source defines, as it lies in memory.
    pub(crate) fn machine_code(&self) -> MachineCode {
        // The lowered module has the worker's functions behind the source's imports. What Lucet adds comes last, with indices that
        // the source does not have.
        let imported = self.plan.imports.len();
        let own = self.functions.get(imported + Builtin::IMPORTED..).unwrap_or_default();
        let place = |function: &FunctionSpec| {
            let start = function.ptr().as_usize();
            start..start + function.code_len() as usize
        };
        let Some(first) = own.iter().map(|function| place(function).start).min() else { return MachineCode::default() };
        let end = own.iter().map(|function| place(function).end).max().unwrap_or(first);
        // SAFETY: all functions lie in one section of the image, which is mapped as long as the module is.
        let text = unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(first), end - first) };
        let functions = own.iter().enumerate().map(|(position, function)| {
            let index = u32::try_from(imported + position).expect("a module has fewer functions");
            let Range { start, end } = place(function);
            (index, start - first..end - first)
        });
        MachineCode { text: text.to_vec(), functions: functions.collect() }
    }

    /// The position of an exported global.
    pub(crate) fn global(&self, name: &str) -> Option<usize> {
        self.data.globals_spec().iter().position(|global| global.export_names().contains(&name))
    }

    /// Gives the elements of the table the values that they have at first.
    pub(crate) fn reset_table(&self) {
        // SAFETY: the table has as many elements, and no guest runs.
        unsafe { ptr::copy_nonoverlapping(self.first.as_ptr(), self.table, self.first.len()) };
    }

    /// The elements that the guest sees.
    ///
    /// # Safety
    ///
    /// The guest's code must not run while they are used.
    #[expect(clippy::mut_from_ref, reason = "the table is no part of the structure, and the caller sees to its use")]
    pub(crate) unsafe fn table(&self) -> &mut [Entry] {
        if self.table.is_null() {
            return &mut [];
        }
        // SAFETY: the image has that many elements there.
        unsafe { slice::from_raw_parts_mut(self.table, self.plan.table.elements as usize) }
    }

    /// The elements of a segment.
    pub(crate) fn segment(&self, segment: usize) -> &[Entry] {
        let Range { start, end } = self.plan.table.segments[segment];
        let at = |place: u32| (place - self.plan.table.active) as usize;
        &self.passive[at(start)..at(end)]
    }
}

/// Makes the table what the guest sees of it. Returns a copy of it, if the guest may change it, and the elements of the
/// passive segments.
///
/// # Safety
///
/// There have to be all elements that the plan tells of, of both kinds.
unsafe fn split_table(table: *mut Entry, plan: &Table) -> (Vec<Entry>, Vec<Entry>) {
    let (active, elements) = (plan.active as usize, plan.elements as usize);
    let all = plan.segments.last().map_or(active, |last| last.end as usize).max(active);
    // SAFETY: as the caller says.
    let both = unsafe { slice::from_raw_parts_mut(table, all.max(elements)) };
    let passive = both[active..all].to_vec();
    both[active..].fill(NULL);
    let first = if plan.changes { both[..elements].to_vec() } else { Vec::new() };
    (first, passive)
}

/// Where everything goes.
struct Layout {
    /// By the index of its section in the file: its first byte in the image.
    sections: HashMap<usize, usize>,
    /// The symbols that the file defines.
    places: HashMap<String, usize>,
    code: Range<usize>,
    constant: Range<usize>,
    /// By its name, where the way to a function of this program begins, in the code.
    ways: HashMap<String, usize>,
    /// By its symbol, where the address of it is, among the constants.
    addresses: HashMap<SymbolIndex, usize>,
    bytes: usize,
}

/// `mov r10d, NUMBER; jmp [rip]`, and the address. The last byte is for the alignment.
const WAY_BYTES: usize = 24;

impl Layout {
    fn of(file: &ElfFile64<'_>, table: &Table) -> Result<Self, String> {
        let is = |flags: SectionFlags, flag: u32| {
            let SectionFlags::Elf { sh_flags } = flags else { unreachable!("it is an ELF file") };
            sh_flags & u64::from(flag) != 0
        };
        let (mut code, mut constant, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        let table_section =
            file.symbols().find(|symbol| symbol.name() == Ok(TABLE)).and_then(|symbol| symbol.section_index());
        let mut undefined = Vec::new();
        for symbol in file.symbols().filter(object::ObjectSymbol::is_undefined) {
            let name = symbol.name().map_err(|error| error.to_string())?;
            if !name.is_empty() {
                undefined.push(name.to_owned());
            }
        }
        let mut indirect = Vec::new();
        for section in file.sections().filter(|section| is(section.flags(), object::elf::SHF_ALLOC)) {
            for (_, relocation) in section.relocations() {
                let (RelocationTarget::Symbol(symbol), RelocationFlags::Elf { r_type }) =
                    (relocation.target(), relocation.flags())
                else {
                    continue;
                };
                if matches!(r_type, R_X86_64_GOTPCREL | R_X86_64_GOTPCRELX | R_X86_64_REX_GOTPCRELX) {
                    indirect.push(symbol);
                }
            }
            let is_table = Some(section.index()) == table_section;
            let name = section.name().map_err(|error| error.to_string())?;
            if is(section.flags(), object::elf::SHF_EXECINSTR) {
                code.push(section);
            } else if is_table || name.ends_with(TABLES) {
                changed.push(section);
            } else {
                constant.push(section);
            }
        }
        let mut next = 0;
        let mut sections = HashMap::new();
        let mut put = |group: &[object::read::elf::ElfSection64<'_, '_>], next: &mut usize| {
            let first = *next;
            for section in group {
                let align = usize::try_from(section.align()).unwrap_or(1);
                *next = next.next_multiple_of(align.clamp(ALIGN_MIN, PAGE_BYTES));
                sections.insert(section.index().0, *next);
                let mut bytes = usize::try_from(section.size()).map_err(|_| "a section is too large")?;
                if Some(section.index()) == table_section {
                    bytes = bytes.max(table.elements as usize * size_of::<Entry>());
                }
                *next += bytes;
            }
            Ok::<_, String>(first)
        };
        put(&code, &mut next)?;
        next = next.next_multiple_of(8);
        let mut ways = HashMap::new();
        for name in undefined {
            ways.entry(name).or_insert_with(|| {
                next += WAY_BYTES;
                next - WAY_BYTES
            });
        }
        next = next.next_multiple_of(PAGE_BYTES);
        let code = 0..next;
        let first = put(&constant, &mut next)?;
        next = next.next_multiple_of(8);
        let mut addresses = HashMap::new();
        for symbol in indirect {
            addresses.entry(symbol).or_insert_with(|| {
                next += size_of::<u64>();
                next - size_of::<u64>()
            });
        }
        next = next.next_multiple_of(PAGE_BYTES);
        let constant = first..next;
        put(&changed, &mut next)?;
        let mut places = HashMap::new();
        for symbol in file.symbols() {
            if let (Ok(name), Some(section)) = (symbol.name(), symbol.section_index())
                && let Some(at) = sections.get(&section.0)
            {
                places.insert(name.to_owned(), at + usize::try_from(symbol.address()).unwrap_or(usize::MAX));
            }
        }
        Ok(Self {
            sections,
            places,
            code,
            constant,
            ways,
            addresses,
            bytes: next.next_multiple_of(PAGE_BYTES).max(PAGE_BYTES),
        })
    }

    /// Copies everything, and puts addresses where they belong.
    fn fill(&self, image: &mut Image, file: &ElfFile64<'_>) -> Result<(), String> {
        for (name, at) in &self.ways {
            let number = calls::number(name).ok_or_else(|| format!("there is no function {name:?}"))?;
            let mut way = vec![0x41, 0xba];
            way.extend(number.to_le_bytes());
            way.extend([0xff, 0x25, 0, 0, 0, 0]);
            way.extend((calls::shim_address() as u64).to_le_bytes());
            image.write(*at, &way);
        }
        for section in file.sections() {
            if let Some(at) = self.sections.get(&section.index().0) {
                image.write(*at, section.data().map_err(|error| error.to_string())?);
            }
        }
        let base = image.address(0);
        let address = |at: usize| base + at as u64;
        let target = |symbol: SymbolIndex| {
            let symbol = file.symbol_by_index(symbol).map_err(|error| error.to_string())?;
            let name = symbol.name().map_err(|error| error.to_string())?;
            let Some(section) = symbol.section_index() else {
                let at = self.ways.get(name).ok_or_else(|| format!("there is no {name:?}"))?;
                return Ok(address(*at));
            };
            let section = self.sections.get(&section.0).ok_or_else(|| format!("{name:?} is not in memory"))?;
            Ok::<_, String>(address(*section) + symbol.address())
        };
        for (symbol, at) in &self.addresses {
            image.write(*at, &target(*symbol)?.to_le_bytes());
        }
        for section in file.sections() {
            let Some(base) = self.sections.get(&section.index().0) else { continue };
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    return Err("a relocation without a symbol".to_owned());
                };
                let RelocationFlags::Elf { r_type } = relocation.flags() else { unreachable!("it is an ELF file") };
                let at = base + usize::try_from(offset).map_err(|error| error.to_string())?;
                let from_here = |to: u64| {
                    let distance = to.wrapping_add_signed(relocation.addend()).wrapping_sub(address(at));
                    i32::try_from(distance.cast_signed()).map_err(|_| "the code is larger than 2 GiB".to_owned())
                };
                match r_type {
                    R_X86_64_64 => {
                        image.write(at, &target(symbol)?.wrapping_add_signed(relocation.addend()).to_le_bytes());
                    }
                    R_X86_64_PC32 | R_X86_64_PLT32 => {
                        image.write(at, &from_here(target(symbol)?)?.to_le_bytes());
                    }
                    R_X86_64_GOTPCREL | R_X86_64_GOTPCRELX | R_X86_64_REX_GOTPCRELX => {
                        image.write(at, &from_here(address(self.addresses[&symbol]))?.to_le_bytes());
                    }
                    other => return Err(format!("a relocation of type {other}")),
                }
            }
        }
        Ok(())
    }
}

impl Module for Loaded {}

impl ModuleInternal for Loaded {
    fn is_instruction_count_instrumented(&self) -> bool {
        false
    }

    fn heap_spec(&self) -> Option<&HeapSpec> {
        self.data.heap_spec()
    }

    fn globals(&self) -> &[GlobalSpec<'_>] {
        self.data.globals_spec()
    }

    fn get_sparse_page_data(&self, page: usize) -> Option<&[u8]> {
        self.data.sparse_data().and_then(|data| *data.get_page(page))
    }

    fn sparse_page_data_len(&self) -> usize {
        self.data.sparse_data().map_or(0, lucet_module::SparseData::len)
    }

    fn table_elements(&self) -> Result<&[TableElement], Error> {
        unimplemented!("functions are not called by their place in the table")
    }

    fn get_export_func(&self, name: &str) -> Result<FunctionHandle, Error> {
        let id = *self.exports.get(name).ok_or_else(|| Error::SymbolNotFound(name.to_owned()))?;
        Ok(FunctionHandle { ptr: self.functions[id.as_u32() as usize].ptr(), id })
    }

    fn get_func_from_idx(&self, table: u32, function: u32) -> Result<FunctionHandle, Error> {
        Err(Error::FuncNotFound(table, function))
    }

    fn get_start_func(&self) -> Result<Option<FunctionHandle>, Error> {
        Ok(self.start.map(|start| self.function_handle_from_ptr(start)))
    }

    fn function_manifest(&self) -> &[FunctionSpec] {
        self.functions
    }

    fn addr_details(&self, address: *const c_void) -> Result<Option<AddrDetails>, Error> {
        let in_module_code = (0..self.image.bytes).contains(&address.addr().wrapping_sub(self.image.base.addr()));
        Ok(Some(AddrDetails { in_module_code, file_name: None, sym_name: None }))
    }

    fn get_signature(&self, function: FunctionIndex) -> &Signature {
        self.data.get_signature(function)
    }

    fn lookup_trapcode(&self, address: *const c_void) -> Option<TrapCode> {
        let address = address.addr();
        if address == remuda_worker::stopped_at() {
            return Some(TrapCode::Interrupt);
        }
        // The first thing that the shim does is to use the guest's stack, which may be full.
        if address == calls::shim_address() {
            return Some(TrapCode::StackOverflow);
        }
        let function = self.functions.iter().find(|function| function.contains(address as u64))?;
        function.traps()?.lookup_addr(function.relative_addr(address as u64)?)
    }
}
