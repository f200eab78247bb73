/* CRC-32 by table, eight bytes a step (M. Kounavis, F. Berry, A Systematic Approach to Building High Performance
 * Software-Based CRC Generators, 2005). */
#include "crc32.h"

enum { STEP = 8 };

static uint32_t table[STEP][256];

/* table[k][b] is the checksum of the byte b followed by k zero bytes. */
static void make_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? 0xEDB88320u : 0);
        table[0][byte] = crc;
    }
    for (int zeros = 1; zeros < STEP; zeros++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t shorter = table[zeros - 1][byte];
            table[zeros][byte] = (shorter >> 8) ^ table[0][shorter & 255];
        }
}

static uint32_t little_endian(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

uint32_t crc32_update(uint32_t crc, const uint8_t *bytes, size_t size)
{
    if (table[0][1] == 0)
        make_table();
    crc = ~crc;
    for (; size >= STEP; size -= STEP, bytes += STEP) {
        uint32_t low = crc ^ little_endian(bytes);
        uint32_t high = little_endian(bytes + 4);
        crc = table[7][low & 255] ^ table[6][(low >> 8) & 255] ^ table[5][(low >> 16) & 255] ^ table[4][low >> 24] ^
              table[3][high & 255] ^ table[2][(high >> 8) & 255] ^ table[1][(high >> 16) & 255] ^ table[0][high >> 24];
    }
    for (; size > 0; size--, bytes++)
        crc = (crc >> 8) ^ table[0][(crc ^ *bytes) & 255];
    return ~crc;
}
