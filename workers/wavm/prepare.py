#!/usr/bin/env python3
"""Makes WAVM's source, which is of 2019 and for LLVM 9, one that builds with LLVM 14 and a C++ compiler of today.

    prepare.py SOURCE DESTINATION

copies the folder SOURCE and changes the copy. Each change is a text that has to be there, so often as is said here: if
it is not, this is another WAVM, and nothing is built of it.
"""

import sys
from pathlib import Path

# The folder of this script, which has files of ours that WAVM's include.
OWN = Path(__file__).resolve().parent

# In the names of files below.
JIT = "Lib/LLVMJIT/"

# Parts of WAVM that the worker has no use for, and that would take most of the time of the build.
UNUSED = [
    "Examples", "Lib/NFA", "Lib/RegExp", "Lib/VFS", "Lib/WASTParse", "Lib/WASTPrint", "Programs/wavm", "Test",
    "ThirdParty/BLAKE2", "ThirdParty/liblmdb", "Lib/Emscripten", "Lib/ObjectCache", "Lib/ThreadTest", "Lib/WASI",
    "Lib/wavm-c",
]

# (file, text, what it becomes, how often it is there), and above each why.
CHANGES = [
    # Compilers of today warn of more.
    ("CMakeLists.txt", '"-Werror"', '"-Wno-error"', 1),
    # Code is made for this processor alone. The other targets of LLVM would make the program three times as large, and
    # its start take twice as long.
    (JIT + "CMakeLists.txt", "\tAllTargetsAsmParsers\n\t${LLVM_TARGETS_TO_BUILD})", "\t${LLVM_NATIVE_ARCH})", 1),
    (JIT + "LLVMJIT.cpp", "InitializeAllTargetInfos()", "InitializeNativeTarget()", 1),
    (JIT + "LLVMJIT.cpp", "\tllvm::InitializeAllTargets();\n\tllvm::InitializeAllTargetMCs();\n", "", 1),
    (JIT + "LLVMJIT.cpp", "InitializeAllAsmPrinters()", "InitializeNativeTargetAsmPrinter()", 1),
    (JIT + "LLVMJIT.cpp", "InitializeAllAsmParsers()", "InitializeNativeTargetAsmParser()", 1),
    (JIT + "LLVMJIT.cpp", "InitializeAllDisassemblers()", "InitializeNativeTargetDisassembler()", 1),
    # Nobody looks for the lines of code that is compiled: without them, compiling, linking and artifacts cost less.
    (JIT + "LLVMCompile.cpp", "#include <llvm/IR/LegacyPassManager.h>\n",
     "#include <llvm/IR/DebugInfo.h>\n#include <llvm/IR/LegacyPassManager.h>\n", 1),
    (JIT + "LLVMCompile.cpp", "\tTiming::Timer optimizationTimer;\n",
     "\tTiming::Timer optimizationTimer;\n\tllvm::StripDebugInfo(llvmModule);\n", 1),
    (JIT + "LLVMModule.cpp", "loader.setProcessAllSections(true);", "loader.setProcessAllSections(false);", 1),
    # Pointers have to be told what they point to: see untyped.h.
    (JIT + "LLVMJITPrivate.h", "#include <llvm/Target/TargetMachine.h>\n",
     '#include <llvm/Target/TargetMachine.h>\n#include "untyped.h"\n', 1),
    (JIT + "EmitContext.h", "llvm::IRBuilder<> irBuilder", "UntypedBuilder irBuilder", 1),
    (JIT + "EmitWorkarounds.h", "llvm::IRBuilder<>&", "WAVM::LLVMJIT::UntypedBuilder&", 3),
    (JIT + "EmitMem.cpp", "llvm::IRBuilder<>&", "UntypedBuilder&", 1),
    (JIT + "EmitNumeric.cpp", "llvm::IRBuilder<>&", "UntypedBuilder&", 6),
    # Alignments are a type of their own.
    (JIT + "EmitContext.h", "->setAlignment(alignment)", "->setAlignment(llvm::Align(alignment))", 2),
    (JIT + "EmitCore.cpp", "->setAlignment(sizeof(Uptr))", "->setAlignment(llvm::Align(sizeof(Uptr)))", 1),
    (JIT + "EmitExceptions.cpp", "->setAlignment(sizeof(UntaggedValue))",
     "->setAlignment(llvm::Align(sizeof(UntaggedValue)))", 1),
    (JIT + "EmitMem.cpp", "->setAlignment(1)", "->setAlignment(llvm::Align(1))", 7),
    (JIT + "EmitMem.cpp", "->setAlignment(1 << imm.alignmentLog2)",
     "->setAlignment(llvm::Align(1 << imm.alignmentLog2))", 2),
    # Atomic instructions have an alignment; none is the natural one.
    (JIT + "EmitMem.cpp", "replacementValue,", "replacementValue, llvm::MaybeAlign(),", 1),
    (JIT + "EmitMem.cpp", "   value,  ", "   value, llvm::MaybeAlign(),", 1),
    # Vectors have a number of lanes that is fixed, or not.
    (JIT + "LLVMJIT.cpp", "llvm::VectorType::get(", "llvm::FixedVectorType::get(", 22),
    (JIT + "EmitFunction.cpp", "value->getType()->getVectorNumElements()", "numLanesOf(value->getType())", 1),
    (JIT + "EmitNumeric.cpp", "condition->getType()->getVectorNumElements()", "numLanesOf(condition->getType())", 2),
    (JIT + "EmitNumeric.cpp", "vectorType->getVectorNumElements()", "numLanesOf(vectorType)", 3),
    (JIT + "EmitNumeric.cpp", "ConstantVector::getSplat(16,",
     "ConstantVector::getSplat(llvm::ElementCount::getFixed(16),", 1),
    # Positions in a vector are signed.
    (JIT + "EmitNumeric.cpp", "unsigned int laneIndices[16]", "int laneIndices[16]", 1),
    (JIT + "EmitNumeric.cpp", "llvm::ArrayRef<unsigned int>(laneIndices", "llvm::ArrayRef<int>(laneIndices", 1),
    # Attributes are added to what has a position, or to a function.
    (JIT + "LLVMJITPrivate.h", "attrs.addAttribute(", "attrs.addAttributeAtIndex(", 2),
    # Names are no strings by themselves.
    (JIT + "LLVMJIT.cpp", "llvm::sys::getHostCPUName()", "llvm::sys::getHostCPUName().str()", 1),
    # LLVM takes a processor that it does not know, because it is newer or emulated, for one of 2003, which is too old for WAVM.
    # What every such processor has is known by its features.
    (JIT + "LLVMJIT.cpp", "\tresult.cpu = llvm::sys::getHostCPUName().str();\n",
     "\tresult.cpu = llvm::sys::getHostCPUName().str();\n#ifdef __x86_64__\n\tllvm::StringMap<bool> has;\n"
     "\tllvm::sys::getHostCPUFeatures(has);\n\tconst llvm::StringRef name = result.cpu;\n"
     "\tconst bool isUnknown = name == \"generic\" || name == \"x86-64\" || name.startswith(\"k8\");\n"
     "\tif(isUnknown && has.lookup(\"sse4.2\"))\n\t{\n"
     "\t\tconst bool hasAll = has.lookup(\"avx2\") && has.lookup(\"bmi2\") && has.lookup(\"fma\")\n"
     "\t\t\t&& has.lookup(\"f16c\") && has.lookup(\"lzcnt\") && has.lookup(\"movbe\");\n"
     "\t\tresult.cpu = hasAll ? \"x86-64-v3\" : \"x86-64-v2\";\n\t}\n#endif\n", 1),
    (JIT + "LLVMModule.cpp", "nameToFunctionMap.addOrFail(*name, function)",
     "nameToFunctionMap.addOrFail(name->str(), function)", 1),
    # Names of files are asked for in other words, and addresses by a constructor.
    (JIT + "LLVMModule.cpp", "FileLineInfoKind::Default", "FileLineInfoKind::RawValue", 1),
    (JIT + "LLVMModule.cpp",
     "llvm::object::SectionedAddress(address, llvm::object::SectionedAddress::UndefSection)",
     "llvm::object::SectionedAddress{address, llvm::object::SectionedAddress::UndefSection}", 1),
    # Flags may be unknown; those of code that LLVM has just made are not.
    (JIT + "LLVMCompile.cpp", "symbol.getFlags()", "cantFail(symbol.getFlags())", 1),
    (JIT + "LLVMModule.cpp", "symbol.getFlags()", "cantFail(symbol.getFlags())", 1),
    (JIT + "Win64EH.cpp", "symbol->getFlags()", "cantFail(symbol->getFlags())", 1),
    # A name may be missing. This is for Windows.
    (JIT + "LLVMModule.cpp", "\t\t\tllvm::StringRef sectionName;\n\t\t\tif(!section.getName(sectionName))\n",
     "\t\t\tauto sectionName = section.getName();\n\t\t\tif(sectionName)\n", 1),
    (JIT + "LLVMModule.cpp", "if(sectionName == ", "if(*sectionName == ", 2),
    # A pass of which this one has become a part.
    (JIT + "LLVMCompile.cpp", "createConstantPropagationPass()", "createInstSimplifyLegacyPass()", 1),
    # It has no such argument any more.
    (JIT + "LLVMCompile.cpp", "createInstructionCombiningPass(bool ExpensiveCombines = true)",
     "createInstructionCombiningPass()", 1),
    # LLVM's listener for debuggers belongs to LLVM.
    (JIT + "LLVMModule.cpp", "~GlobalModuleState() { delete gdbRegistrationListener; }", "", 1),
    # A copy of a memory: only what is not zero needs one, and takes memory then. See hooks.h.
    ("Lib/Runtime/Memory.cpp",
     "memcpy(newMemory->baseAddress, memory->baseAddress, numPages * IR::numBytesPerPage);",
     "copyData(newMemory->baseAddress, memory->baseAddress);", 1),
    # An intrinsic function that has left the experiments.
    (JIT + "EmitConvert.cpp", "experimental_vector_reduce_add", "vector_reduce_add", 2),

    # The code by which functions are called from outside can be kept: see hooks.h. So it may not have addresses of the
    # process in it.
    (JIT + "Thunk.cpp", '#include "LLVMJITPrivate.h"\n', '#include "LLVMJITPrivate.h"\n#include "hooks.h"\n', 1),
    (JIT + "Thunk.cpp", "\t// Create a LLVM module and a LLVM function for the thunk.\n",
     "\tstd::vector<U8> objectBytes = findThunk(asString(functionType));\n\tif(objectBytes.empty())\n\t{\n"
     "\tauto symbol = [](llvm::Module& module, LLVMContext& context, const char* name) {\n"
     "\t\treturn llvm::ConstantExpr::getPtrToInt(new llvm::GlobalVariable(module, context.i8Type, false,\n"
     "\t\t\tllvm::GlobalVariable::ExternalLinkage, nullptr, name), context.iptrType);\n"
     "\t};\n", 1),
    (JIT + "Thunk.cpp", "emitLiteralPointer(functionMutableData, llvmContext.iptrType)",
     'symbol(llvmModule, llvmContext, "thunkData")', 1),
    (JIT + "Thunk.cpp", "emitLiteral(llvmContext, functionType.getEncoding().impl)",
     'symbol(llvmModule, llvmContext, "thunkType")', 1),
    (JIT + "Thunk.cpp", "\tstd::vector<U8> objectBytes\n\t\t= compileLLVMModule(",
     "\tobjectBytes = compileLLVMModule(", 1),
    (JIT + "Thunk.cpp", "\t// Load the object code.\n",
     "\tkeepThunk(asString(functionType), objectBytes);\n\t}\n\n"
     "\tHashMap<std::string, Uptr> symbols;\n"
     '\tsymbols.addOrFail("thunkData", reinterpret_cast<Uptr>(functionMutableData));\n'
     '\tsymbols.addOrFail("thunkType", functionType.getEncoding().impl);\n', 1),
    (JIT + "Thunk.cpp", "LLVMJIT::Module(objectBytes, {}, false)", "LLVMJIT::Module(objectBytes, symbols, false)", 1),

    # WAVM has one exception for a division by zero, a quotient that has no representation, and a float that is too
    # large. It gets one more, for the latter two.
    ("Include/WAVM/Runtime/Runtime.h", "\tvisit(integerDivideByZeroOrOverflow);",
     "\tvisit(integerDivideByZeroOrOverflow); visit(integerOverflow);", 1),
    ("Lib/Runtime/WAVMIntrinsics.cpp", "static thread_local Uptr indentLevel = 0;",
     'WAVM_DEFINE_INTRINSIC_FUNCTION(wavmIntrinsics, "integerOverflowTrap", void, integerOverflowTrap)\n'
     "{ throwException(ExceptionTypes::integerOverflow); }\n\n"
     "static thread_local Uptr indentLevel = 0;", 1),
    (JIT + "EmitConvert.cpp", '"divideByZeroOrIntegerOverflowTrap"', '"integerOverflowTrap"', 1),
    (JIT + "EmitFunction.cpp", "\temitConditionalTrapIntrinsic(\n\t\tirBuilder.CreateOr(",
     "\ttrapDivideByZero(right);\n\temitConditionalTrapIntrinsic(\n\t\tirBuilder.CreateOr(", 1),
    (JIT + "EmitFunction.cpp", 'typedZeroConstants[(Uptr)type])),\n\t\t"divideByZeroOrIntegerOverflowTrap"',
     'typedZeroConstants[(Uptr)type])),\n\t\t"integerOverflowTrap"', 1),

    # From here on: the standard is younger than WAVM. What a bulk operation has out of bounds traps before anything is
    # written, and so it does if it is to do nothing there: see bulk.h.
    ("Lib/Runtime/Memory.cpp", '#include "RuntimePrivate.h"\n', '#include "RuntimePrivate.h"\n#include "bulk.h"\n', 1),
    ("Lib/Runtime/Table.cpp", '#include "RuntimePrivate.h"\n', '#include "RuntimePrivate.h"\n#include "bulk.h"\n', 1),
    ("Lib/Runtime/Memory.cpp",
     "U8* destPointer = getReservedMemoryOffsetRange(memory, destAddress, numBytes);",
     "U8* destPointer = getValidatedMemoryOffsetRange(memory, destAddress, numBytes);\n"
     "checkSegment(instance, dataSegmentIndex, dataVector->size(), sourceOffset, numBytes,\n"
     "ExceptionTypes::outOfBoundsDataSegmentAccess);", 1),
    ("Lib/Runtime/Table.cpp", "\tfor(Uptr index = 0; index < numElems; ++index)\n",
     "\tcheckTable(table, destOffset, numElems);\n"
     "\tcheckSegment(instance, elemSegmentIndex, numSourceIndices, sourceOffset, numElems,\n"
     "ExceptionTypes::outOfBoundsElemSegmentAccess);\n"
     "\tfor(Uptr index = 0; index < numElems; ++index)\n", 1),
    ("Lib/Runtime/Table.cpp", "\t\tif(sourceOffset < destOffset)\n",
     "\t\tcheckTable(destTable, destOffset, numElements);\n"
     "\t\tcheckTable(sourceTable, sourceOffset, numElements);\n"
     "\t\tif(sourceOffset < destOffset)\n", 1),
    ("Lib/Runtime/Table.cpp", "\tif(!value) { value = getUninitializedElement(); }\n",
     "\tcheckTable(destTable, destOffset, numElements);\n"
     "\tif(!value) { value = getUninitializedElement(); }\n", 1),
    # A guest that does little else than this is hardly ever met in its own code by the signal that stops it.
    ("Lib/Runtime/Memory.cpp", "\tif(!growMemory(memory, (Uptr)deltaPages, &oldNumPages)) { return -1; }",
     "\tconst bool hasGrown = growMemory(memory, (Uptr)deltaPages, &oldNumPages);\n"
     "\tlookForStop();\n\tif(!hasGrown) { return -1; }", 1),
    # A segment that was dropped is an empty one.
    ("Lib/Runtime/Memory.cpp",
     "{ throwException(ExceptionTypes::invalidArgument); }\n\telse\n\t{\n\t\tinstance->dataSegments",
     "{}\n\telse\n\t{\n\t\tinstance->dataSegments", 1),
    ("Lib/Runtime/Memory.cpp", "{ throwException(ExceptionTypes::invalidArgument); }",
     "{\n"
     "static const std::vector<U8> none;\n"
     "initDataSegment(instance, dataSegmentIndex, &none, memory, destAddress, sourceOffset, numBytes);\n"
     "}", 1),
    ("Lib/Runtime/Table.cpp",
     "{ throwException(ExceptionTypes::invalidArgument); }\n\telse\n\t{\n\t\tinstance->elemSegments",
     "{}\n\telse\n\t{\n\t\tinstance->elemSegments", 1),
    ("Lib/Runtime/Table.cpp", "{ throwException(ExceptionTypes::invalidArgument); }",
     "{\n"
     "checkTable(table, destIndex, numElems);\n"
     "checkSegment(instance, elemSegmentIndex, 0, sourceIndex, numElems,\n"
     "ExceptionTypes::outOfBoundsElemSegmentAccess);\n"
     "}", 1),
    # These two were instructions without any check, one of them for each byte.
    ("Lib/Runtime/Memory.cpp", 'WAVM_DEFINE_INTRINSIC_FUNCTION(wavmIntrinsicsMemory, "memory.size"',
     'WAVM_DEFINE_INTRINSIC_FUNCTION(wavmIntrinsicsMemory, "memory.fill", void, memory_fill,\n'
     "U32 destAddress, U32 value, U32 numBytes, Uptr memoryId)\n"
     "{\n"
     "Memory* memory = getMemoryFromRuntimeData(contextRuntimeData, memoryId);\n"
     "memset(getValidatedMemoryOffsetRange(memory, destAddress, numBytes), U8(value), numBytes);\n"
     "lookForStop();\n"
     "}\n\n"
     'WAVM_DEFINE_INTRINSIC_FUNCTION(wavmIntrinsicsMemory, "memory.copy", void, memory_copy,\n'
     "U32 destAddress, U32 sourceAddress, U32 numBytes, Uptr destMemoryId, Uptr sourceMemoryId)\n"
     "{\n"
     "Memory* destMemory = getMemoryFromRuntimeData(contextRuntimeData, destMemoryId);\n"
     "Memory* sourceMemory = getMemoryFromRuntimeData(contextRuntimeData, sourceMemoryId);\n"
     "U8* dest = getValidatedMemoryOffsetRange(destMemory, destAddress, numBytes);\n"
     "memmove(dest, getValidatedMemoryOffsetRange(sourceMemory, sourceAddress, numBytes), numBytes);\n"
     "lookForStop();\n"
     "}\n\n"
     'WAVM_DEFINE_INTRINSIC_FUNCTION(wavmIntrinsicsMemory, "memory.size"', 1),
    (JIT + "EmitMem.cpp", "\tllvm::Value* sourceBoundedAddress = getOffset",
     "\temitRuntimeIntrinsic(\"memory.copy\",\n"
     "FunctionType({}, TypeTuple({ValueType::i32, ValueType::i32, ValueType::i32, inferValueType<Uptr>(),\n"
     "inferValueType<Uptr>()}), IR::CallingConvention::intrinsic),\n"
     "{destAddress, sourceAddress, numBytes,\n"
     "getMemoryIdFromOffset(llvmContext, moduleContext.memoryOffsets[imm.destMemoryIndex]),\n"
     "getMemoryIdFromOffset(llvmContext, moduleContext.memoryOffsets[imm.sourceMemoryIndex])});\n"
     "return;\n\n"
     "\tllvm::Value* sourceBoundedAddress = getOffset", 1),
    (JIT + "EmitMem.cpp", "\tllvm::Value* value = pop();\n\tllvm::Value* destAddress = pop();\n",
     "\tllvm::Value* value = pop();\n\tllvm::Value* destAddress = pop();\n"
     "\temitRuntimeIntrinsic(\"memory.fill\",\n"
     "FunctionType({}, TypeTuple({ValueType::i32, ValueType::i32, ValueType::i32, inferValueType<Uptr>()}),\n"
     "IR::CallingConvention::intrinsic),\n"
     "{destAddress, value, numBytes,\n"
     "getMemoryIdFromOffset(llvmContext, moduleContext.memoryOffsets[imm.memoryIndex])});\n"
     "return;\n\n", 1),
    # Null references have a type now.
    ("Lib/WASM/WASMSerialization.cpp", "serializeOpcode(bodyStream, opcode);",
     "serializeOpcode(bodyStream, opcode);\n"
     "if(opcode == Opcode::ref_null) { U8 type; serializeNativeValue(bodyStream, type); }", 1),
    ("Lib/WASM/WASMSerialization.cpp", "case InitializerExpression::Type::ref_null: break;",
     "case InitializerExpression::Type::ref_null: { U8 type = 0x70; serializeNativeValue(stream, type); break; }", 1),
    ("Lib/WASM/WASMSerialization.cpp", "case ElemExpr::Type::ref_null: break;",
     "case ElemExpr::Type::ref_null: { U8 type = 0x70; serializeNativeValue(stream, type); break; }", 1),
    # Segments may only declare functions. Such a one is taken for one that nobody uses.
    ("Lib/WASM/WASMSerialization.cpp", "\t\t\t\tthrow FatalSerializationException(\"invalid elem segment flags\");\n\n",
     "\t\t\t\telemSegment.type = ElemSegment::Type::passive; break;\n\n", 1),
    ("Lib/WASM/WASMSerialization.cpp", "if(flags & 2) { serializeVarUInt32",
     "if((flags & 3) == 2) { serializeVarUInt32", 1),
]


# Files of ours, and the folders that they are put into.
OWN_FILES = [("bulk.h", "Lib/Runtime/"), ("hooks.h", "Lib/Runtime/"), ("hooks.h", JIT), ("untyped.h", JIT)]


def changed(source: Path) -> dict[str, bytes]:
    """The files that are not as they are in the source, by their names."""
    texts: dict[str, str] = {}
    unused = [("CMakeLists.txt", f"add_subdirectory({part})\n", "\n", 1) for part in UNUSED]
    for file, text, becomes, times in CHANGES + unused:
        before = texts.get(file) or (source / file).read_text(encoding="utf-8")
        found = before.count(text)
        if found != times:
            sys.exit(f"prepare.py: {file} has {text!r} {found} times, not {times}: this is another version of WAVM")
        texts[file] = before.replace(text, becomes)
    files = {file: text.encode() for file, text in texts.items()}
    files.update({folder + file: (OWN / file).read_bytes() for file, folder in OWN_FILES})
    return files


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, destination = Path(sys.argv[1]), Path(sys.argv[2])
    files = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    files.update(changed(source))
    for file, content in files.items():
        path = destination / file
        # A file that is written is compiled again.
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


if __name__ == "__main__":
    main()
