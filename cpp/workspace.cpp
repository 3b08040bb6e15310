// Blocks that are given back stand in a few slots until another call can use them: a block is taken by exchanging a
// slot with null and put back the same way. No lock, so a fork in the middle leaves nothing locked and loses at most
// the blocks that other threads had in their hands.
//
// Fresh pages cost about 0.25 us per KiB (the kernel clears them), as much as a small layer takes to compute; that is
// what keeping blocks saves, of scratch and of results alike. What is kept is bounded. Small blocks are malloc's
// business, which keeps them itself; larger ones than the cache can hold go back to the system at once.
#include "workspace.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <atomic>
#include <cstdlib>
#include <new>

namespace konv {
namespace {

constexpr index alignment = 64, mebibyte = index{1} << 20;
constexpr index smallest_kept = index{64} << 10;  // malloc returns nothing to the system for less
constexpr index largest_kept = 32 * mebibyte;
#if defined(__SANITIZE_ADDRESS__)
constexpr index most_kept = 0;  // every block is malloc's own, so that AddressSanitizer sees what is done to it
#else
constexpr index most_kept = 64 * mebibyte;  // all blocks together
#endif
constexpr unsigned slots = 16;

struct Block {  // stands at the start of its own memory while that is kept
  index capacity;
};

std::atomic<Block*> cache[slots];
std::atomic<index> kept{0};  // bytes in the cache and on the way there

thread_local bool dry_run = false;

index whole_lines(index bytes) { return checked_add(bytes, alignment - 1) / alignment * alignment; }

void let_go(Block* block) {
  if (!block) return;
  kept.fetch_sub(block->capacity);
  std::free(block);
}

// A kept block of `least` to `most` bytes, or nullptr.
Block* take(index least, index most) {
  for (std::atomic<Block*>& slot : cache) {
    if (!slot.load(std::memory_order_relaxed)) continue;
    Block* block = slot.exchange(nullptr, std::memory_order_acquire);
    if (!block) continue;
    if (least <= block->capacity && block->capacity <= most) {
      kept.fetch_sub(block->capacity);
      return block;
    }
    let_go(slot.exchange(block, std::memory_order_acq_rel));  // whatever was put there meanwhile
  }
  return nullptr;
}

void keep(Block* block) {
  static std::atomic<unsigned> turn{0};
  const auto next = [&]() -> std::atomic<Block*>& { return cache[turn.fetch_add(1) % slots]; };
  // Blocks that did not serve make room, in turn.
  kept.fetch_add(block->capacity);
  for (unsigned i = 0; kept.load() > most_kept && i < slots; i++) let_go(next().exchange(nullptr));
  if (kept.load() > most_kept) return let_go(block);  // other threads are about to keep theirs
  for (std::atomic<Block*>& slot : cache) {
    Block* none = nullptr;
    if (slot.compare_exchange_strong(none, block, std::memory_order_release, std::memory_order_relaxed)) return;
  }
  let_go(next().exchange(block, std::memory_order_acq_rel));
}

// Bytes of a workspace in all.
index total(index shared, index per_slot, int slots) {
  const index bytes = checked_add(shared, checked_mul(per_slot, slots));
  if (dry_run) throw Workspace::Request{shared, per_slot, slots, bytes};
  return bytes;
}

// One odd cache line more a slot: slices a power of two apart would fight for the same sets of the cache.
index slice(index bytes) {
  const index lines = whole_lines(bytes);
  return lines && lines % 4096 == 0 ? lines + alignment : lines;
}

}  // namespace

Memory::Memory(index bytes, Use use) : data_(nullptr), bytes_(bytes) {
  capacity_ = checked_add(whole_lines(bytes), alignment);
  if (capacity_ <= largest_kept && capacity_ >= smallest_kept)
    if (Block* block = take(capacity_, use == Use::result ? capacity_ + capacity_ / 8 : 8 * (capacity_ + mebibyte))) {
      data_ = block, capacity_ = block->capacity;
      return;
    }
  // Large ones come fresh each time: ask for large pages.
  const index page = capacity_ > largest_kept ? 2 * mebibyte : alignment;
  capacity_ = checked_add(capacity_, page - 1) / page * page;
  data_ = std::aligned_alloc(static_cast<std::size_t>(page), static_cast<std::size_t>(capacity_));
  if (!data_) throw std::bad_alloc();
#if defined(__linux__)
  if (page > alignment) madvise(data_, static_cast<std::size_t>(capacity_), MADV_HUGEPAGE);  // a wish: failing is fine
#endif
}

Memory::~Memory() {
  if (data_ && capacity_ >= smallest_kept && capacity_ <= largest_kept) keep(new (data_) Block{capacity_});
  else std::free(data_);
}

Workspace::Workspace(index shared, index per_slot, int slots)
    : shared_(whole_lines(shared)),
      per_slot_(slice(per_slot)),
      memory_(total(shared_, per_slot_, slots), Memory::Use::scratch) {}

Workspace::DryRun::DryRun() { dry_run = true; }
Workspace::DryRun::~DryRun() { dry_run = false; }

}  // namespace konv
