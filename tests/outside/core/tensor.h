// This project's own tensor: it must not be mistaken for accrue's, nor accrue's for it.
#pragma once

namespace outside {
constexpr int tensor = 42;
}
