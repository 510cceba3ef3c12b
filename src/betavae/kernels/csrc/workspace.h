/* Memory that a thread keeps from call to call, and gives back when it ends. */

#pragma once

#include <stddef.h>

enum { SHARED, OWN }; /* what all threads of a call see, kept by the calling thread; what one thread works in */

/* At least `size` bytes, aligned to 64, with any content; NULL where memory ran out. */
void *workspace(int which, size_t size);
