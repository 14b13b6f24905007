// The headers of every test, compiled once: the programs take them as CMake precompiles them.
#include "support.h"
