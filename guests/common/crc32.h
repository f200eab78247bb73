/* CRC-32 as PNG and zip use it (polynomial 0x04C11DB7, reflected: ISO 3309, ITU-T V.42). */
#ifndef CRC32_H
#define CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Continues a checksum over `size` more bytes; start with crc = 0. */
uint32_t crc32_update(uint32_t crc, const uint8_t *bytes, size_t size);

#endif
