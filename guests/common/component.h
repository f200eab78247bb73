// What components share that call the canonical ABI of the component model themselves: memory for what the host writes to
// them, and text.
#ifndef COMPONENT_H
#define COMPONENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name))) extern

typedef struct {
    const char *data;
    size_t length;
} text;

// The text of a literal.
#define TEXT(literal) ((text){literal, sizeof(literal) - 1})

// `option<string>`.
typedef struct {
    uint8_t is_some;
    text value;
} maybe_text;

// What the host writes to the guest, and what the guest makes, until it sets `arena_used` back.
static char arena[256 << 10];
static size_t arena_used;

static void *allocate(size_t alignment, size_t size) {
    size_t at = (arena_used + alignment - 1) & ~(alignment - 1);
    if (size > sizeof arena - at) {
        __builtin_trap();
    }
    arena_used = at + size;
    return arena + at;
}

__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t alignment, size_t size) {
    void *new = allocate(alignment, size);
    if (old_size > 0) {
        __builtin_memcpy(new, old, old_size < size ? old_size : size);
    }
    return new;
}

static void check(bool holds) {
    if (!holds) {
        __builtin_trap();
    }
}

static bool skip(text *from, text prefix) {
    if (from->length < prefix.length) {
        return false;
    }
    for (size_t i = 0; i < prefix.length; i++) {
        if (from->data[i] != prefix.data[i]) {
            return false;
        }
    }
    from->data += prefix.length;
    from->length -= prefix.length;
    return true;
}

static uint64_t number(text digits) {
    uint64_t n = 0;
    for (size_t i = 0; i < digits.length && digits.data[i] >= '0' && digits.data[i] <= '9'; i++) {
        n = n * 10 + (uint64_t)(digits.data[i] - '0');
    }
    return n;
}

static text decimal(uint64_t n) {
    char *digits = allocate(1, 20);
    size_t at = 20;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return (text){digits + at, 20 - at};
}

#endif
