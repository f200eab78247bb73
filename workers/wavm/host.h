// Calls of the host: WASI is there, and only the bytes of the guest's memory travel that it reads and writes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "connection.h"

enum class Type : uint8_t { I32 = 0, I64 = 1 };

// What a function reads of the memory.
struct Read {
    // Whether what is read are pointers and lengths of buffers, which are read, too.
    bool isGathered;
    // The positions of the pointer and of the number of items among the arguments.
    uint8_t at;
    uint8_t count;
    uint8_t itemBytes;
};

// A function of the host that guests may import.
struct HostFunction {
    // The name of the module that it is imported from.
    std::string module;
    std::string name;
    std::vector<Type> params;
    // Whether it returns an `i32`; otherwise it returns nothing.
    bool returns;
    std::vector<Read> reads;
};

// The bytes of a guest's memory.
struct Bytes {
    uint8_t* base;
    size_t count;
};

// Notes the functions of the host.
void link(Reader order);

// The functions that the host has told of.
const std::vector<HostFunction>& hostFunctions();

// Calls a function of the host, by its position among those that were linked. `memory` is the guest's, or empty if it
// has none that the host's functions see. Returns false if the guest is to end.
bool callHost(uint16_t function, const uint64_t* args, Bytes memory, int32_t& result);
