// Bulk operations as the standard has them now: what is out of bounds traps before anything is written. prepare.py puts
// this file beside WAVM's own in Lib/Runtime, where Memory.cpp and Table.cpp include it.
#pragma once

#include "RuntimePrivate.h"
#include "WAVM/Runtime/Runtime.h"
#include "hooks.h"

namespace WAVM { namespace Runtime {
    // Traps unless a segment has so many items from an offset on.
    inline void checkSegment(Instance* instance,
                             Uptr segmentIndex,
                             Uptr segmentItems,
                             Uptr offset,
                             Uptr numItems,
                             ExceptionType* exceptionType)
    {
        if(offset > segmentItems || numItems > segmentItems - offset)
        { throwException(exceptionType, {asObject(instance), U64(segmentIndex), U64(segmentItems)}); }
    }

    // Traps unless a table has so many elements from an offset on.
    inline void checkTable(Table* table, Uptr offset, Uptr numElements)
    {
        const Uptr size = getTableNumElements(table);
        if(offset > size || numElements > size - offset)
        { throwException(ExceptionTypes::outOfBoundsTableAccess, {table, U64(offset)}); }
    }
}}
