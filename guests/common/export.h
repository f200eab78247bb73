/* EXPORT(name): makes a function callable from outside the module by that name. */
#ifndef EXPORT_H
#define EXPORT_H

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(name)))
#else
#define EXPORT(name)
#endif

#endif
