/* See workspace.h. */

#include "workspace.h"

#include <pthread.h>

#include "simd.h"

typedef struct { char *start; size_t size; } Arena;

static _Thread_local Arena arenas[2];
static pthread_key_t at_thread_end;

static void free_arenas(void *of_thread) {
    Arena *both = of_thread;
    for (int i = 0; i < 2; i++) {
        free(both[i].start);
        both[i] = (Arena){NULL, 0};
    }
}

static void make_key(void) { pthread_key_create(&at_thread_end, free_arenas); }

void *workspace(int which, size_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    Arena *arena = arenas + which;
    if (!arena->start || arena->size < size) {
        pthread_once(&once, make_key);
        pthread_setspecific(at_thread_end, arenas);
        free(arena->start);
        arena->start = aligned_alloc(64, cache_lines(size + 1)); /* never 0 bytes */
        arena->size = arena->start ? size : 0;
    }
    return arena->start;
}
