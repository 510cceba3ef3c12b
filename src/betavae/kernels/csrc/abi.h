/* The version of the interface between C and Python: raise it with structs.py. */

#pragma once

enum { ABI_VERSION = 1 };
