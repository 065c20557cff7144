// How much memory the process has used and how much it may still use.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ptq {

// The largest resident size of this process so far. Mapped files count while their pages are resident.
int64_t peak_rss_bytes();

// What the process can allocate before the system swaps or kills: the system's available memory, or what its
// control group (a container's limit) leaves if that is less. Page cache that can be dropped counts as
// available. Returns -1 where the system does not tell.
int64_t available_memory_bytes();

// Lets the whole pages of a mapping that lie in [data, data + bytes) leave resident memory: they are read
// again from the file when touched, and what was written to a shared one is kept. The edges stay, because
// they may belong to a neighbour that is in use.
void drop_pages(const void* data, size_t bytes);

// Gives memory that the allocator holds but nothing uses back to the system. Cost: some milliseconds a
// gigabyte. Does nothing where the C library has no such call.
void return_free_memory();

}  // namespace ptq
