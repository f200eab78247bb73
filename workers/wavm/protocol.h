// The numbers of the protocol between a worker and its host.
#pragma once

#include <cstdint>

// The version of the protocol.
constexpr uint32_t PROTOCOL = 2;

// The kinds of orders.
namespace order {
constexpr uint8_t LINK = 1;
constexpr uint8_t COMPILE = 2;
constexpr uint8_t FORGET = 3;
constexpr uint8_t INSTANTIATE = 4;
constexpr uint8_t CALL = 5;
constexpr uint8_t RETURN = 6;
constexpr uint8_t DROP = 8;
constexpr uint8_t SERIALIZE = 9;
constexpr uint8_t LOAD = 10;
} // namespace order

// The kinds of reports.
namespace report {
constexpr uint8_t HELLO = 64;
constexpr uint8_t COMPILED = 65;
constexpr uint8_t REFUSED = 66;
constexpr uint8_t READY = 67;
constexpr uint8_t IMPORT = 68;
constexpr uint8_t RETURNED = 69;
constexpr uint8_t ENDED = 70;
constexpr uint8_t SERIALIZED = 71;
} // namespace report

// How a guest ended that did not return.
enum class End : uint8_t {
    // The host has ended it within a call.
    Unwound = 0,
    // It was stopped by a signal.
    Interrupted = 1,
    Unreachable = 2,
    MemoryOutOfBounds = 3,
    TableOutOfBounds = 4,
    DivisionByZero = 5,
    IntegerOverflow = 6,
    BadConversion = 7,
    BadSignature = 8,
    StackExhausted = 9,
    OtherTrap = 10,
    // The worker has no memory for the guest.
    OutOfMemory = 11,
    CallToNull = 12,
};
