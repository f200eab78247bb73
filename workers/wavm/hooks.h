// What WAVM's code, as prepare.py changes it, calls in the worker. prepare.py puts this file beside the code that does.
#pragma once

#include <string>
#include <vector>

#include "WAVM/Inline/BasicTypes.h"

// The code by which functions of a type are called from outside of a module. WAVM would have LLVM make it in each
// process that calls one; here it travels with the module's code. This finds it, by the type's text; nothing if there
// is none yet.
std::vector<WAVM::U8> findThunk(const std::string& type);

// Keeps it.
void keepThunk(const std::string& type, const std::vector<WAVM::U8>& code);

// Copies what instantiating a module has written to a memory. The rest of it is zero.
void copyData(WAVM::U8* to, const WAVM::U8* from);

// Ends the guest here, as the signal would, if it has asked in vain. The caller holds nothing.
void lookForStop();
