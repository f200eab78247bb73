// A worker that runs guests in WAVM: docs/workers.md describes what it and its host say to each other.
//
// It has nothing but its socket to the host. One thread carries out the orders, one after the other, and runs guests.

#include <map>
#include <memory>
#include <unistd.h>

#include "WAVM/Platform/Thread.h"

#include "connection.h"
#include "engine.h"
#include "host.h"
#include "protocol.h"
#include "stop.h"

namespace {

// The stack of the thread that runs guests, in bytes. WAVM takes 68 KiB of it for its signals, and touches all of it at
// the start.
constexpr size_t GUEST_STACK_BYTES = (1 << 20) + (128 << 10);

// The modules, by the numbers that the host has given them.
std::map<uint32_t, std::shared_ptr<Module>> modules;

void sayHello() {
    Writer& out = begin(report::HELLO);
    out.putU32(PROTOCOL);
    for (const std::string& version : versions()) {
        out.putText(version);
    }
    send();
}

void refuse(const std::string& reason) {
    begin(report::REFUSED).putText(reason);
    send();
}

void fail(const Failure& failure) {
    if (!failure.end) {
        refuse(failure.detail);
        return;
    }
    bool refusedGrowth = wasRefusedGrowth();
    Writer& out = begin(report::ENDED);
    out.putU8(uint8_t(*failure.end));
    out.putU8(refusedGrowth);
    out.putText(failure.detail);
    send();
}

void carryOutMake(Order order) {
    uint32_t number = order.rest.takeU32();
    std::string reason;
    std::shared_ptr<Module> module;
    if (order.kind == order::COMPILE) {
        // WAVM compiles on one thread, whatever the number.
        order.rest.takeU8();
        size_t bytes = order.rest.left();
        module = compile(order.rest.takeBytes(bytes), bytes, reason);
    } else {
        size_t bytes = order.rest.left();
        module = load(order.rest.takeBytes(bytes), bytes, reason);
    }
    if (module) {
        modules[number] = module;
        begin(report::COMPILED);
        send();
    } else {
        refuse(reason);
    }
    shrink();
}

void carryOutSerialize(Order order) {
    std::vector<uint8_t> artifact = serialize(*modules.at(order.rest.takeU32()));
    if (artifact.empty()) {
        refuse("it was not compiled here");
        return;
    }
    begin(report::SERIALIZED).put(artifact.data(), artifact.size());
    send();
}

void carryOutInstantiate(Order order) {
    const std::shared_ptr<Module>& module = modules.at(order.rest.takeU32());
    MemoryOrder memory;
    memory.isThere = order.rest.takeU8() == 1;
    memory.isExported = order.rest.takeU8() == 1;
    memory.initialPages = order.rest.takeU32();
    memory.maximumPages = order.rest.takeU32();
    if (std::optional<Failure> failure = instantiate(module, memory)) {
        fail(*failure);
        return;
    }
    begin(report::READY);
    send();
}

void carryOutCall(Order order) {
    std::string name = order.rest.takeText();
    std::vector<Integer> args(order.rest.takeU16());
    for (Integer& arg : args) {
        arg.type = Type(order.rest.takeU8());
        arg.bits = order.rest.takeU64();
    }
    std::vector<uint64_t> results;
    if (std::optional<Failure> failure = call(name, args, results)) {
        fail(*failure);
        return;
    }
    bool refusedGrowth = wasRefusedGrowth();
    Writer& out = begin(report::RETURNED);
    out.putU8(refusedGrowth);
    out.putU16(results.size());
    for (uint64_t result : results) {
        out.putU64(result);
    }
    send();
}

void carryOut(Order order) {
    switch (order.kind) {
    case order::LINK:
        link(order.rest);
        break;
    case order::COMPILE:
    case order::LOAD:
        carryOutMake(order);
        break;
    case order::FORGET:
        modules.erase(order.rest.takeU32());
        break;
    case order::INSTANTIATE:
        carryOutInstantiate(order);
        break;
    case order::CALL:
        carryOutCall(order);
        break;
    case order::DROP:
        dropInstance();
        break;
    case order::SERIALIZE:
        carryOutSerialize(order);
        break;
    default:
        _exit(1);
    }
}

WAVM::I64 serve(void*) {
    initGuestThread();
    sayHello();
    while (true) {
        carryOut(receive());
    }
}

} // namespace

int main() {
    installStop();
    // WAVM reads the limits of the main thread's stack from a file, which a worker may not open: so guests run on
    // another thread.
    WAVM::Platform::Thread* guests = WAVM::Platform::createThread(GUEST_STACK_BYTES, serve, nullptr);
    blockStop();
    WAVM::Platform::joinThread(guests);
}
