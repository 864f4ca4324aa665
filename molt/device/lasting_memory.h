// Memory for what stays as long as a model does: packed weights. They lie beside each other in huge pages, which small
// ones would not fill alone; a product over one row then reads them at the memory's full speed.
#pragma once

#include <cstddef>
#include <memory>

#include "molt/device/memory.h"

namespace molt {

/// A block of bytes on the CPU, aligned to 64, counted in memory_use(). Its memory is free for nobody else until all
/// blocks around it (up to 32 MiB) are gone: for long lives only. Throws SystemError where there is no memory left.
std::shared_ptr<Block> allocate_lasting(size_t bytes);

}  // namespace molt
