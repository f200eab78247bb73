#include "host.h"

#include <algorithm>

#include "protocol.h"
#include "stop.h"

namespace {

// The most bytes that one call of the host takes from the guest's memory: as many as the host copies for a call.
constexpr size_t READ_BYTES_MAX = 128 << 20;

constexpr size_t PAGE_BYTES = 64 << 10;

// A pointer and a length, of 32 bits each.
constexpr size_t VECTOR_BYTES = 8;

std::vector<HostFunction> functions;

// Adds bytes of the memory. Returns whether there was room for them.
bool putSpan(Bytes memory, size_t at, size_t bytes, Writer& out) {
    if (out.frame.size() + bytes > READ_BYTES_MAX) {
        return false;
    }
    out.putU32(at);
    out.putU32(bytes);
    out.put(memory.base + at, bytes);
    return true;
}

// Adds the buffers that the vectors at an address tell of. Returns whether there was room for them.
bool putBuffers(Bytes memory, size_t at, size_t vectors, Writer& out) {
    for (size_t i = 0; i < vectors; i++) {
        uint32_t buffer[2];
        memcpy(buffer, memory.base + at + i * VECTOR_BYTES, VECTOR_BYTES);
        auto [pointer, bytes] = buffer;
        bool isWithin = uint64_t(pointer) + bytes <= memory.count;
        if (isWithin && bytes > 0 && !putSpan(memory, pointer, bytes, out)) {
            return false;
        }
    }
    return true;
}

// Adds what a call may read of the memory. What does not lie within the memory is left out: the host sees by itself
// that it does not. Returns whether there was room for everything.
bool putReads(const std::vector<Read>& reads, const uint64_t* args, Bytes memory, Writer& out) {
    for (const Read& read : reads) {
        size_t from = uint32_t(args[read.at]);
        if (from >= memory.count) {
            continue;
        }
        size_t wanted = size_t(uint32_t(args[read.count])) * read.itemBytes;
        size_t bytes = std::min(wanted, memory.count - from);
        if (bytes == 0) {
            continue;
        }
        if (!putSpan(memory, from, bytes, out)) {
            return false;
        }
        if (read.isGathered && !putBuffers(memory, from, bytes / VECTOR_BYTES, out)) {
            return false;
        }
    }
    return true;
}

} // namespace

void link(Reader order) {
    functions.resize(order.takeU16());
    for (HostFunction& function : functions) {
        function.module = order.takeText();
        function.name = order.takeText();
        function.params.resize(order.takeU8());
        for (Type& param : function.params) {
            param = Type(order.takeU8());
        }
        function.returns = order.takeU8() == 1;
        function.reads.resize(order.takeU8());
        for (Read& read : function.reads) {
            read.isGathered = order.takeU8() == 1;
            read.at = order.takeU8();
            read.count = order.takeU8();
            read.itemBytes = order.takeU8();
        }
    }
}

const std::vector<HostFunction>& hostFunctions() {
    return functions;
}

bool callHost(uint16_t function, const uint64_t* args, Bytes memory, int32_t& result) {
    OutsideOfGuest outside;
    const HostFunction& called = functions[function];
    Writer& out = begin(report::IMPORT);
    out.putU16(function);
    out.putU32(memory.count / PAGE_BYTES);
    size_t complete = out.frame.size();
    out.putU8(0);
    for (size_t i = 0; i < called.params.size(); i++) {
        out.putU64(args[i]);
    }
    out.frame[complete] = putReads(called.reads, args, memory, out);
    send();
    Order order = receive();
    if (order.kind != order::RETURN) {
        return false;
    }
    result = order.rest.takeU32();
    while (order.rest.left() > 0) {
        uint32_t at = order.rest.takeU32();
        uint32_t bytes = order.rest.takeU32();
        memcpy(memory.base + at, order.rest.takeBytes(bytes), bytes);
    }
    return true;
}
