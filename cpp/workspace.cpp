// Blocks that are given back stand in a few places until another call can use them. A thread that finds another one at
// work there does without: nobody waits, so that nobody can wait for a thread that a fork has lost.
// Fresh pages cost about 0.25 us per KiB (the kernel clears them), as much as a small layer takes to compute; that is
// what keeping blocks saves, of scratch and of results alike (1.2 to 1.7 on results of 64 MiB to 1 GiB). What is kept
// is bounded, and the pages of large blocks are the system's whenever it needs them. Small blocks are malloc's
// business, which keeps them itself; larger ones than the cache can hold go back to the system at once.
#include "workspace.hpp"
#include <pthread.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace konv {
namespace {

using Block = Memory::Block;
constexpr index alignment = 64, mebibyte = index{1} << 20, large = 32 * mebibyte;
#if defined(MADV_FREE)  // a sixteenth of the machine's memory, and no more than a result of 1 GiB on large pages
const index largest_kept =
    std::clamp(index{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE) / 16, large, 1040 * mebibyte);
#else
constexpr index largest_kept = large;
#endif
const index most_kept[] = {64 * mebibyte, largest_kept};  // of small blocks, of large ones
#if defined(__SANITIZE_ADDRESS__)
constexpr index smallest_kept = index{1} << 62;  // every block is malloc's own: the sanitizer sees what is done to it
#else
constexpr index smallest_kept = index{64} << 10;  // malloc returns nothing to the system for less
#endif
constexpr unsigned places = 16;

struct Cache {
  std::atomic_flag busy;
  Block blocks[places];
  index bytes[2] = {};  // of small blocks, of large ones
  unsigned turn = 0;

  bool enter() { return !busy.test_and_set(std::memory_order_acquire); }
  void leave() { busy.clear(std::memory_order_release); }
} cache;

// The child of a fork in the middle begins with no blocks.
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] {
  if (!cache.enter()) new (&cache) Cache;
  cache.leave();
});

bool is_large(const Block& block) { return block.capacity > large; }
bool is_kept(index capacity) { return smallest_kept <= capacity && capacity <= largest_kept; }

// A kept block of `least` to `most` bytes, or none.
Block take(index least, index most) {
  Block found;
  if (!cache.enter()) return found;
  for (Block& block : cache.blocks)
    if (!found.data && least <= block.capacity && block.capacity <= most) std::swap(found, block);
  cache.bytes[is_large(found)] -= found.capacity;
  cache.leave();
  return found;
}

void give_back(Block block) {
  if (!is_kept(block.capacity) || !cache.enter()) return std::free(block.data);
#if defined(MADV_FREE)
  if (is_large(block)) madvise(block.data, static_cast<std::size_t>(block.capacity), MADV_FREE);
#endif
  cache.bytes[is_large(block)] += block.capacity;
  for (Block& place : cache.blocks)
    if (!place.data) std::swap(place, block);
  // Blocks that did not serve make room, in turn.
  while (block.data || cache.bytes[0] > most_kept[0] || cache.bytes[1] > most_kept[1]) {
    Block& next = cache.blocks[cache.turn++ % places];
    if (!block.data && cache.bytes[is_large(next)] <= most_kept[is_large(next)]) continue;  // its kind is not too much
    std::swap(next, block);
    cache.bytes[is_large(block)] -= block.capacity;
    std::free(std::exchange(block, {}).data);
  }
  cache.leave();
}

index whole_lines(index bytes) { return checked_add(bytes, alignment - 1) / alignment * alignment; }

// One odd cache line more a slot: slices a power of two apart would fight for the same sets of the cache.
index slice(index bytes) {
  const index lines = whole_lines(bytes);
  return lines && lines % page_bytes == 0 ? lines + alignment : lines;
}

thread_local bool dry_run = false;

Scratch asked(index shared, index per_slot, int slots) {
  const Scratch scratch{shared, per_slot, slots, checked_add(shared, checked_mul(per_slot, slots))};
  if (dry_run) throw scratch;
  return scratch;
}
}  // namespace

Memory::Memory(index bytes, bool scratch) : bytes_(bytes) {
  if (bytes < 0) throw std::bad_alloc();
  index capacity = checked_add(whole_lines(bytes), alignment);
  // On large pages, packed weights are read 1.00 to 1.07 times as fast.
  const index page = capacity > 4 * mebibyte ? 2 * mebibyte : alignment;
  capacity = checked_add(capacity, page - 1) / page * page;
  if (is_kept(capacity))
    block_ = take(capacity, scratch ? 8 * (capacity + mebibyte) : capacity + std::max(capacity / 8, page));
  if (block_.data) return;
  block_ = {std::aligned_alloc(static_cast<std::size_t>(page), static_cast<std::size_t>(capacity)), capacity};
  if (!block_.data) throw std::bad_alloc();
#if defined(__linux__)
  if (page > alignment) madvise(data(), static_cast<std::size_t>(capacity), MADV_HUGEPAGE);  // a wish: failing is fine
#endif
}

Memory::~Memory() { give_back(block_); }

Workspace::Workspace(index shared, index per_slot, int slots)
    : scratch_(asked(whole_lines(shared), slice(per_slot), slots)), memory_(scratch_.total, true) {}

Scratch Workspace::asked_by(const std::function<void()>& f) {
  const struct DryRun {
    DryRun() { dry_run = true; }
    ~DryRun() { dry_run = false; }
  } now;
  try {
    f();
  } catch (const Scratch& asked) {
    return asked;
  }
  return {};
}
}  // namespace konv
