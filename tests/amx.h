/* Intel's AMX in plain C, so that code made for its tiles can be tested on a CPU that has none: compile with
-D__AMX_BF16__ -include amx.h. Tiles that were not configured, and products of shapes that do not fit, end the process. */

#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One state for all files of a library: weak definitions are merged. */
#define SHARED_STATE __attribute__((weak)) _Thread_local

SHARED_STATE struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } amx_configured;
SHARED_STATE uint8_t amx_tiles[8][16][64];

static void check(int right, const char *what) {
    if (!right) {
        fprintf(stderr, "tiles: %s\n", what);
        abort();
    }
}

static void check_tile(int tile) {
    check(amx_configured.palette == 1, "not configured");
    check(amx_configured.rows[tile] && amx_configured.rows[tile] <= 16, "rows of a tile");
    check(amx_configured.bytes[tile] && amx_configured.bytes[tile] <= 64, "bytes of a tile's row");
}

static void tile_loadconfig(const void *from) {
    memcpy(&amx_configured, from, sizeof amx_configured);
    memset(amx_tiles, 0, sizeof amx_tiles);
}

static void tile_release(void) { memset(&amx_configured, 0, sizeof amx_configured); }

static void tile_zero(int tile) {
    check_tile(tile);
    memset(amx_tiles[tile], 0, sizeof amx_tiles[tile]);
}

static void tile_loadd(int tile, const void *from, int64_t stride) {
    tile_zero(tile);
    for (int r = 0; r < amx_configured.rows[tile]; r++) memcpy(amx_tiles[tile][r], (const char *)from + r * stride, amx_configured.bytes[tile]);
}

static void tile_stored(int tile, void *to, int64_t stride) {
    check_tile(tile);
    for (int r = 0; r < amx_configured.rows[tile]; r++) memcpy((char *)to + r * stride, amx_tiles[tile][r], amx_configured.bytes[tile]);
}

static float bf16(uint16_t value) {
    const uint32_t bits = (uint32_t)value << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static void tile_dpbf16ps(int sums, int left, int right) {
    check_tile(sums), check_tile(left), check_tile(right);
    check(amx_configured.rows[left] == amx_configured.rows[sums], "rows of left tile and sums");
    check(amx_configured.bytes[right] == amx_configured.bytes[sums], "columns of right tile and sums");
    check(amx_configured.bytes[left] == 4 * amx_configured.rows[right], "depth of left and right tile");
    for (int y = 0; y < amx_configured.rows[sums]; y++)
        for (int k = 0; k < amx_configured.rows[right]; k++) {
            const uint16_t *pair = (const uint16_t *)amx_tiles[left][y] + 2 * k, *row = (const uint16_t *)amx_tiles[right][k];
            float *sum = (float *)amx_tiles[sums][y];
            for (int x = 0; x < amx_configured.bytes[sums] / 4; x++)
                sum[x] += bf16(pair[0]) * bf16(row[2 * x]) + bf16(pair[1]) * bf16(row[2 * x + 1]);
        }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig tile_loadconfig
#define _tile_release tile_release
#define _tile_zero tile_zero
#define _tile_loadd tile_loadd
#define _tile_stored tile_stored
#define _tile_dpbf16ps tile_dpbf16ps
#define syscall(...) 0 /* leave to use tiles is granted */
