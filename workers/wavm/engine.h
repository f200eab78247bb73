// WAVM: modules and their instances.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host.h"
#include "protocol.h"

// What the program is, as the host is told.
std::vector<std::string> versions();

// Why an order about a guest did not succeed.
struct Failure {
    // How the guest ended; nothing if no guest is to blame.
    std::optional<End> end;
    // More words about it.
    std::string detail;
};

// The memory of an instance that is to be made.
struct MemoryOrder {
    // Whether the module imports a memory.
    bool isThere;
    // Whether functions of the host get to see it.
    bool isExported;
    uint32_t initialPages;
    uint32_t maximumPages;

    bool operator==(const MemoryOrder& other) const {
        return isThere == other.isThere && isExported == other.isExported && initialPages == other.initialPages &&
               maximumPages == other.maximumPages;
    }
};

// An argument of an exported function, or a result.
struct Integer {
    Type type;
    uint64_t bits;
};

// A compiled module.
class Module;

// Compiles a module. Without one, `reason` says why.
std::shared_ptr<Module> compile(const uint8_t* bytes, size_t count, std::string& reason);

// What `load` makes the module of again.
std::vector<uint8_t> serialize(const Module& module);

// Makes a module of what `serialize` gave. Without one, `reason` says why.
std::shared_ptr<Module> load(const uint8_t* bytes, size_t count, std::string& reason);

// Makes the thread that calls this the one that runs guests.
void initGuestThread();

// Makes an instance. There is at most one at a time.
std::optional<Failure> instantiate(const std::shared_ptr<Module>& module, const MemoryOrder& memory);

// Calls an exported function of the instance, and leaves the bits of its results in `results`.
std::optional<Failure> call(const std::string& name, const std::vector<Integer>& args, std::vector<uint64_t>& results);

// Whether the instance was refused growth of its memory that its type allows.
bool wasRefusedGrowth();

// Frees the instance.
void dropInstance();
