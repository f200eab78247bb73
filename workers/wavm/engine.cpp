#include "engine.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <functional>
#include <map>
#include <pthread.h>
#include <set>
#include <sys/mman.h>
#include <utility>

#include "WAVM/IR/FeatureSpec.h"
#include "WAVM/IR/Module.h"
#include "WAVM/IR/Types.h"
#include "WAVM/IR/Value.h"
#include "WAVM/LLVMJIT/LLVMJIT.h"
#include "WAVM/Runtime/Intrinsics.h"
#include "WAVM/Runtime/Runtime.h"
#include "WAVM/RuntimeABI/RuntimeABI.h"
#include "WAVM/WASM/WASM.h"

#include "hooks.h"
#include "stop.h"

using namespace WAVM;

// WAVM's module and what is made of it.
class Module {
public:
    Runtime::ModuleRef module;
    // Of each imported function, its position among the host's.
    std::vector<uint16_t> imported;
    // The code by which guests call these.
    std::vector<uint8_t> hostCode;
    // What `load` needs, if the module was compiled here.
    std::vector<uint8_t> artifact;

    // An instance that no guest runs in: guests get copies of it, so that code is linked only once. `pristineFor` says
    // which memory it was made with.
    Runtime::GCPointer<Runtime::Compartment> pristine;
    Runtime::Instance* pristineInstance = nullptr;
    Runtime::Memory* pristineMemory = nullptr;
    MemoryOrder pristineFor = {};

    ~Module() { dropPristine(); }

    void dropPristine() {
        if (pristine) {
            Runtime::tryCollectCompartment(std::move(pristine));
        }
    }
};

namespace {

// The version in the file VERSION of WAVM's source.
constexpr const char* WAVM_VERSION = "0.0.0-prerelease";

// Changes with whatever changes the code that is made of a module: artifacts of another revision are refused.
constexpr const char* REVISION = "1";

// The most functions that the host may have. WASI has some hundred.
constexpr size_t HOST_FUNCTIONS_MAX = 512;

// The stack of a thread that compiles, in bytes. LLVM goes as deep as the code that it compiles is nested; the main
// thread of a program of its own would have 8 MiB. Only what is used takes memory.
constexpr size_t COMPILER_STACK_BYTES = 64 << 20;

// What a call of the host may take of the guest's stack, in bytes. A guest that has less left is ended before the call:
// WAVM gives up whatever runs at the end of the stack, and in the call's middle that may hold a lock.
constexpr uintptr_t HOST_STACK_BYTES = 32 << 10;

// The name of an exported global that is not 0 once growth of the memory was refused.
const std::string REFUSED_GROWTH = std::string(1, '\0') + "remuda refused";

// The running guest.
struct Guest {
    std::shared_ptr<Module> module;
    Runtime::GCPointer<Runtime::Compartment> compartment;
    Runtime::Context* context = nullptr;
    Runtime::Instance* instance = nullptr;
    // What functions of the host see.
    Runtime::Memory* memory = nullptr;
};
Guest guest;

// Whether the host has ended the guest.
bool isUnwound = false;

// Where the guest's stack ends.
uint8_t* stackGuard = nullptr;

// The module whose code for calls of the host is asked for.
Module* hostCodeOf = nullptr;

// The module of which an instance is being copied.
Module* copied = nullptr;

// Hands out the code for calls of the host, which WAVM would compile each time.
struct HostCode : Runtime::ObjectCacheInterface {
    std::vector<U8> getCachedObject(const U8*, Uptr, std::function<std::vector<U8>()>&& compileThunk) override {
        if (hostCodeOf->hostCode.empty()) {
            hostCodeOf->hostCode = compileThunk();
        }
        return hostCodeOf->hostCode;
    }
};

// Ends the guest, as one whose stack is exhausted, if there is too little left for a call of the host.
void checkStack() {
    uint8_t* here = static_cast<uint8_t*>(__builtin_frame_address(0));
    if (here < stackGuard + HOST_STACK_BYTES) {
        // Nothing may be used there.
        *const_cast<volatile uint8_t*>(stackGuard) = 0;
    }
}

void* callFromGuest(uint16_t number, const IR::UntaggedValue* args, IR::UntaggedValue* results) {
    checkStack();
    const HostFunction& function = hostFunctions()[number];
    std::array<uint64_t, UINT8_MAX> bits;
    for (size_t i = 0; i < function.params.size(); i++) {
        bits[i] = function.params[i] == Type::I32 ? args[i].u32 : args[i].u64;
    }
    Bytes memory = {nullptr, 0};
    if (guest.memory) {
        memory.base = Runtime::getMemoryBaseAddress(guest.memory);
        memory.count = Runtime::getMemoryNumPages(guest.memory) * IR::numBytesPerPage;
    }
    int32_t result = 0;
    if (!callHost(number, bits.data(), memory, result)) {
        isUnwound = true;
        Runtime::throwException(Runtime::ExceptionTypes::calledAbort);
    }
    if (function.returns) {
        results[0].i32 = result;
    }
    return nullptr;
}

// WAVM does not tell a function which one it is: so there is one for each number.
using FromGuest = void* (*)(const IR::UntaggedValue*, IR::UntaggedValue*);

template <uint16_t NUMBER> void* fromGuest(const IR::UntaggedValue* args, IR::UntaggedValue* results) {
    return callFromGuest(NUMBER, args, results);
}

template <size_t... NUMBERS>
constexpr std::array<FromGuest, sizeof...(NUMBERS)> allFromGuest(std::index_sequence<NUMBERS...>) {
    return {fromGuest<NUMBERS>...};
}

constexpr auto FROM_GUEST = allFromGuest(std::make_index_sequence<HOST_FUNCTIONS_MAX>());

IR::FunctionType typeOf(const HostFunction& function, IR::CallingConvention convention) {
    std::vector<IR::ValueType> params;
    for (Type param : function.params) {
        params.push_back(param == Type::I32 ? IR::ValueType::i32 : IR::ValueType::i64);
    }
    IR::TypeTuple results = function.returns ? IR::TypeTuple(IR::ValueType::i32) : IR::TypeTuple();
    return IR::FunctionType(results, IR::TypeTuple(params), convention);
}

// Finds the functions that a module imports among those of the host.
bool findImports(Module& module, const IR::Module& ir, std::string& reason) {
    for (const auto& import : ir.functions.imports) {
        const std::vector<HostFunction>& functions = hostFunctions();
        size_t number = 0;
        while (number < functions.size() && (functions[number].module != import.moduleName ||
                                             functions[number].name != import.exportName)) {
            number++;
        }
        bool isThere = number < std::min(functions.size(), HOST_FUNCTIONS_MAX) &&
                       typeOf(functions[number], IR::CallingConvention::wasm) == ir.types[import.type.index];
        if (!isThere) {
            reason = "there is no import \"" + import.exportName + "\" of this type";
            return false;
        }
        module.imported.push_back(number);
    }
    bool isOther = ir.tables.imports.size() + ir.globals.imports.size() + ir.exceptionTypes.imports.size() > 0 ||
                   ir.memories.imports.size() > 1;
    if (isOther) {
        reason = "it imports something else than functions and a memory";
    }
    return !isOther;
}

// Makes the functions of the host that a module imports, under the names of their positions.
Runtime::Instance* instantiateHost(Module& module, Runtime::Compartment* compartment) {
    std::set<uint16_t> numbers(module.imported.begin(), module.imported.end());
    if (numbers.empty()) {
        return nullptr;
    }
    Intrinsics::Module host;
    std::vector<std::string> names;
    names.reserve(numbers.size());
    std::vector<Intrinsics::Function> functions;
    functions.reserve(numbers.size());
    for (uint16_t number : numbers) {
        names.push_back(std::to_string(number));
        IR::FunctionType type = typeOf(hostFunctions()[number], IR::CallingConvention::cAPICallback);
        void* native = reinterpret_cast<void*>(FROM_GUEST[number]);
        functions.emplace_back(&host, names.back().c_str(), native, type);
    }
    hostCodeOf = &module;
    return Intrinsics::instantiateModule(compartment, {&host}, "host");
}

// The code by which functions are called from here, by the text of their type.
std::map<std::string, std::vector<uint8_t>> thunks;

// The most types of functions for which a module's artifact has that code. For others it is made when one is called.
constexpr size_t THUNKS_MAX = 32;

// Does something on a thread that has stack enough for LLVM.
void onCompilerThread(const std::function<void()>& work) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, COMPILER_STACK_BYTES);
    auto run = [](void* work) -> void* {
        blockStop();
        (*static_cast<const std::function<void()>*>(work))();
        return nullptr;
    };
    pthread_t thread;
    void* argument = const_cast<std::function<void()>*>(&work);
    if (pthread_create(&thread, &attributes, run, argument) != 0) {
        abort();
    }
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
}

// What WAVM has of today's WebAssembly.
IR::FeatureSpec features() {
    IR::FeatureSpec features(IR::FeatureLevel::mature);
    features.multipleResultsAndBlockParams = true;
    features.referenceTypes = true;
    return features;
}

// Reads a module and finds its imports.
bool readModule(Module& module, const uint8_t* bytes, size_t count, IR::Module& ir, std::string& reason) {
    WASM::LoadError error;
    if (!WASM::loadBinaryModule(bytes, count, ir, &error)) {
        reason = error.message;
        return false;
    }
    auto isMutable = [](const IR::GlobalDef& global) { return global.type.isMutable; };
    size_t globals = std::count_if(ir.globals.defs.begin(), ir.globals.defs.end(), isMutable);
    if (globals > Runtime::maxMutableGlobals) {
        reason = "it has more mutable globals than WAVM can have";
        return false;
    }
    return findImports(module, ir, reason);
}

// What stands before the code of a module: code is only for the program, and the processor, that it was made for.
std::string magic() {
    std::string magic = "remuda";
    for (const std::string& version : versions()) {
        magic += " " + version;
    }
    return magic + " " + LLVMJIT::getHostTargetSpec().cpu + "\n";
}

void putBytes(Writer& out, const std::vector<uint8_t>& bytes) {
    out.putU32(bytes.size());
    out.put(bytes.data(), bytes.size());
}

std::vector<uint8_t> takeBytes(Reader& in) {
    size_t bytes = in.takeU32();
    const uint8_t* from = in.takeBytes(bytes);
    return std::vector<uint8_t>(from, from + bytes);
}

// Adds the code by which the host calls the functions that a module exports.
void putThunks(Writer& out, const IR::Module& ir) {
    std::set<std::string> types;
    for (const IR::Export& exported : ir.exports) {
        if (exported.kind == IR::ExternKind::function && types.size() < THUNKS_MAX) {
            IR::FunctionType type = ir.types[ir.functions.getType(exported.index).index];
            LLVMJIT::getInvokeThunk(type);
            types.insert(asString(type));
        }
    }
    out.putU32(types.size());
    for (const std::string& type : types) {
        out.putText(type);
        putBytes(out, thunks.at(type));
    }
}

void takeThunks(Reader& in) {
    size_t types = in.takeU32();
    for (size_t i = 0; i < types; i++) {
        std::string type = in.takeText();
        thunks.emplace(type, takeBytes(in));
    }
}

void compileOn(Module& module, const uint8_t* bytes, size_t count, std::string& reason) {
    IR::Module ir(features());
    if (!readModule(module, bytes, count, ir, reason)) {
        return;
    }
    std::vector<uint8_t> code = LLVMJIT::compileModule(ir, LLVMJIT::getHostTargetSpec());
    // Where this is instantiated does not matter to the code.
    Runtime::GCPointer<Runtime::Compartment> compartment = Runtime::createCompartment();
    instantiateHost(module, compartment);
    Runtime::tryCollectCompartment(std::move(compartment));
    Writer out;
    std::string own = magic();
    out.put(own.data(), own.size());
    putBytes(out, std::vector<uint8_t>(bytes, bytes + count));
    putBytes(out, code);
    putBytes(out, module.hostCode);
    putThunks(out, ir);
    module.artifact = std::move(out.frame);
    module.module = Runtime::loadPrecompiledModule(ir, code);
}

// How a guest ended, by WAVM's exception, which is freed.
Failure ended(Runtime::Exception* exception) {
    namespace types = Runtime::ExceptionTypes;
    const std::pair<Runtime::ExceptionType*, End> ends[] = {
        {types::outOfBoundsMemoryAccess, End::MemoryOutOfBounds},
        {types::outOfBoundsDataSegmentAccess, End::MemoryOutOfBounds},
        {types::outOfBoundsTableAccess, End::TableOutOfBounds},
        {types::outOfBoundsElemSegmentAccess, End::TableOutOfBounds},
        {types::stackOverflow, End::StackExhausted},
        {types::integerDivideByZeroOrOverflow, End::DivisionByZero},
        {types::integerOverflow, End::IntegerOverflow},
        {types::invalidFloatOperation, End::BadConversion},
        {types::reachedUnreachable, End::Unreachable},
        {types::indirectCallSignatureMismatch, End::BadSignature},
        {types::uninitializedTableElement, End::CallToNull},
        {types::outOfMemory, End::OutOfMemory},
    };
    Runtime::ExceptionType* type = Runtime::getExceptionType(exception);
    Runtime::destroyException(exception);
    if (isUnwound) {
        return {End::Unwound, ""};
    }
    for (const auto& [known, end] : ends) {
        if (type == known) {
            return {end, ""};
        }
    }
    return {End::OtherTrap, Runtime::describeExceptionType(type)};
}

// Does something that may run the guest's code.
std::optional<Failure> catchEnd(const std::function<void()>& work) {
    isUnwound = false;
    std::optional<Failure> failure;
    inGuest([&] {
        Runtime::catchRuntimeExceptions(work, [&](Runtime::Exception* exception) { failure = ended(exception); });
    });
    if (failure && wasStopped()) {
        failure = {End::Interrupted, ""};
    }
    return failure;
}

// Makes the instance that guests get copies of.
std::optional<Failure> makePristine(Module& module, const MemoryOrder& order) {
    module.dropPristine();
    module.pristine = Runtime::createCompartment();
    Runtime::Memory* memory = nullptr;
    if (order.isThere) {
        IR::MemoryType type(false, {order.initialPages, order.maximumPages});
        memory = Runtime::createMemory(module.pristine, type, "memory");
        if (!memory) {
            module.dropPristine();
            return Failure{End::OutOfMemory, "no memory for the guest"};
        }
    }
    Runtime::Instance* host = instantiateHost(module, module.pristine);
    Runtime::ImportBindings imports;
    for (const auto& import : Runtime::getModuleIR(module.module).imports) {
        if (import.kind == IR::ExternKind::function) {
            std::string name = std::to_string(module.imported[import.index]);
            imports.push_back(Runtime::getInstanceExport(host, name));
        } else if (memory) {
            imports.push_back(Runtime::asObject(memory));
        } else {
            module.dropPristine();
            return Failure{std::nullopt, "there is no import \"memory\""};
        }
    }
    Runtime::Instance* instance = nullptr;
    std::optional<Failure> failure = catchEnd([&] {
        instance = Runtime::instantiateModule(module.pristine, module.module, std::move(imports), "guest");
    });
    if (failure) {
        module.dropPristine();
        return failure;
    }
    if (memory) {
        // Nobody writes to it any more; and then it does not count as memory that the worker may write to.
        size_t bytes = Runtime::getMemoryNumPages(memory) * IR::numBytesPerPage;
        mprotect(Runtime::getMemoryBaseAddress(memory), bytes, PROT_READ);
    }
    module.pristineInstance = instance;
    module.pristineMemory = memory;
    module.pristineFor = order;
    return std::nullopt;
}

// Makes sure that the code is there by which functions of this type are called from here.
void makeInvokable(IR::FunctionType type) {
    static std::set<Uptr> known;
    if (!known.insert(type.getEncoding().impl).second) {
        return;
    }
    if (thunks.count(asString(type)) > 0) {
        LLVMJIT::getInvokeThunk(type);
    } else {
        onCompilerThread([&] { LLVMJIT::getInvokeThunk(type); });
    }
}

} // namespace

void copyData(U8* to, const U8* from) {
    for (const IR::DataSegment& segment : Runtime::getModuleIR(copied->module).dataSegments) {
        if (segment.isActive) {
            // Nothing else than a constant is possible, as no global is imported.
            uint32_t at = segment.baseOffset.i32;
            memcpy(to + at, from + at, segment.data->size());
        }
    }
}

std::vector<U8> findThunk(const std::string& type) {
    auto found = thunks.find(type);
    return found == thunks.end() ? std::vector<U8>() : found->second;
}

void keepThunk(const std::string& type, const std::vector<U8>& code) {
    thunks[type] = code;
}

std::vector<std::string> versions() {
    return {"wavm", WAVM_VERSION, "llvm", REVISION};
}

std::shared_ptr<Module> compile(const uint8_t* bytes, size_t count, std::string& reason) {
    auto module = std::make_shared<Module>();
    onCompilerThread([&] { compileOn(*module, bytes, count, reason); });
    return module->module ? module : nullptr;
}

std::vector<uint8_t> serialize(const Module& module) {
    return module.artifact;
}

std::shared_ptr<Module> load(const uint8_t* bytes, size_t count, std::string& reason) {
    std::string own = magic();
    if (count < own.size() || memcmp(bytes, own.data(), own.size()) != 0) {
        reason = "it is not of this program and processor";
        return nullptr;
    }
    Reader in(bytes + own.size(), bytes + count);
    std::vector<uint8_t> source = takeBytes(in);
    std::vector<uint8_t> code = takeBytes(in);
    auto module = std::make_shared<Module>();
    module->hostCode = takeBytes(in);
    takeThunks(in);

    IR::Module ir(features());
    bool isRead = false;
    onCompilerThread([&] { isRead = readModule(*module, source.data(), source.size(), ir, reason); });
    if (!isRead) {
        return nullptr;
    }
    module->module = Runtime::loadPrecompiledModule(ir, code);
    return module;
}

void initGuestThread() {
    Runtime::setGlobalObjectCache(std::make_shared<HostCode>());
    // WAVM has put a page that may not be used between the thread's stack and that of its signals.
    stack_t signals;
    if (sigaltstack(nullptr, &signals) != 0) {
        abort();
    }
    stackGuard = static_cast<uint8_t*>(signals.ss_sp) + signals.ss_size;
}

std::optional<Failure> instantiate(const std::shared_ptr<Module>& module, const MemoryOrder& memory) {
    if (!module->pristine || !(module->pristineFor == memory)) {
        std::optional<Failure> failure = makePristine(*module, memory);
        if (failure) {
            return failure;
        }
    }
    guest.module = module;
    copied = module.get();
    guest.compartment = Runtime::cloneCompartment(module->pristine);
    guest.context = Runtime::createContext(guest.compartment);
    guest.instance = Runtime::remapToClonedCompartment(module->pristineInstance, guest.compartment);
    if (memory.isThere && memory.isExported) {
        guest.memory = Runtime::remapToClonedCompartment(module->pristineMemory, guest.compartment);
    }
    Runtime::Function* start = Runtime::getStartFunction(guest.instance);
    if (!start) {
        return std::nullopt;
    }
    makeInvokable(Runtime::getFunctionType(start));
    return catchEnd([&] { Runtime::invokeFunction(guest.context, start); });
}

std::optional<Failure> call(const std::string& name, const std::vector<Integer>& args, std::vector<uint64_t>& results) {
    Runtime::Function* function = Runtime::asFunctionNullable(Runtime::getInstanceExport(guest.instance, name));
    if (!function) {
        return Failure{std::nullopt, "there is no function \"" + name + "\""};
    }
    IR::FunctionType type = Runtime::getFunctionType(function);
    if (args.size() != type.params().size()) {
        return Failure{std::nullopt, "\"" + name + "\" takes another number of arguments"};
    }
    std::vector<IR::UntaggedValue> argValues;
    for (const Integer& arg : args) {
        bool isI32 = arg.type == Type::I32;
        argValues.push_back(isI32 ? IR::UntaggedValue(uint32_t(arg.bits)) : IR::UntaggedValue(arg.bits));
    }
    std::vector<IR::UntaggedValue> resultValues(type.results().size());
    makeInvokable(type);
    std::optional<Failure> failure = catchEnd([&] {
        Runtime::invokeFunction(guest.context, function, type, argValues.data(), resultValues.data());
    });
    if (failure) {
        return failure;
    }
    for (size_t i = 0; i < resultValues.size(); i++) {
        bool isI32 = type.results()[i] == IR::ValueType::i32;
        results.push_back(isI32 ? resultValues[i].u32 : resultValues[i].u64);
    }
    return std::nullopt;
}

bool wasRefusedGrowth() {
    if (!guest.instance) {
        return false;
    }
    Runtime::Global* global = Runtime::asGlobalNullable(Runtime::getInstanceExport(guest.instance, REFUSED_GROWTH));
    return global && Runtime::getGlobalValue(guest.context, global).i32 != 0;
}

void dropInstance() {
    if (guest.compartment) {
        Runtime::tryCollectCompartment(std::move(guest.compartment));
    }
    guest = Guest();
}
