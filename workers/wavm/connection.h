// Frames: a length of 32 bits, which counts what follows it, a byte for the kind, and the rest. All numbers are
// little-endian, as are those of the processors that this is built for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

// Takes what an order has, one thing after the other. The host is trusted: an order that ends too early is a fault of
// one of the two programs, and ends this one.
class Reader {
public:
    Reader(const uint8_t* next, const uint8_t* end) : next(next), end(end) {}

    uint8_t takeU8() { return take<uint8_t>(); }
    uint16_t takeU16() { return take<uint16_t>(); }
    uint32_t takeU32() { return take<uint32_t>(); }
    uint64_t takeU64() { return take<uint64_t>(); }
    const uint8_t* takeBytes(size_t bytes);
    std::string takeText();

    size_t left() const { return end - next; }

private:
    template <typename Number> Number take() {
        Number number;
        memcpy(&number, takeBytes(sizeof(number)), sizeof(number));
        return number;
    }

    const uint8_t* next;
    const uint8_t* end;
};

// Writes a report.
class Writer {
public:
    void putU8(uint8_t number) { put(&number, sizeof(number)); }
    void putU16(uint16_t number) { put(&number, sizeof(number)); }
    void putU32(uint32_t number) { put(&number, sizeof(number)); }
    void putU64(uint64_t number) { put(&number, sizeof(number)); }
    void putText(const std::string& text) {
        putU32(text.size());
        put(text.data(), text.size());
    }
    void put(const void* bytes, size_t count) {
        const uint8_t* from = static_cast<const uint8_t*>(bytes);
        frame.insert(frame.end(), from, from + count);
    }

    std::vector<uint8_t> frame;
};

struct Order {
    uint8_t kind;
    Reader rest;
};

// Waits for the next order, which is valid until the next one is asked for. The process ends when the host has gone.
Order receive();

// Begins a report, in the place of the last one.
Writer& begin(uint8_t kind);

// Sends the report that was begun.
void send();

// Frees the input buffer if a large order has made it grow.
void shrink();
