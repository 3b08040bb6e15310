// Scratch comes from a few slots that keep the blocks of earlier calls: a block is taken by exchanging a slot with null
// and given back the same way. No lock, so a fork in the middle leaves nothing locked and loses at most one block.
//
// Fresh pages cost about 0.25 us per KiB (the kernel clears them), as much as a small layer takes to compute; that is
// what keeping blocks saves. What is kept is bounded; larger blocks go back to the system at once.
#include "workspace.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace konv {
namespace {

constexpr index alignment = 64;
constexpr int kept_blocks = 8;
constexpr index largest_kept = index{16} << 20;  // 128 MiB at the very most, after calls of that size

index whole_lines(index bytes) { return checked_add(bytes, alignment - 1) / alignment * alignment; }

struct Block {  // stands in the first `alignment` bytes of its own memory
  index capacity;
};

std::atomic<Block*> cache[kept_blocks];

thread_local bool dry_run = false;

Block* take(index bytes) {
  for (std::atomic<Block*>& slot : cache) {
    if (!slot.load(std::memory_order_relaxed)) continue;
    Block* block = slot.exchange(nullptr, std::memory_order_acquire);
    if (!block) continue;
    if (block->capacity >= bytes && block->capacity / 8 <= bytes + (1 << 20)) return block;
    std::free(slot.exchange(block, std::memory_order_acq_rel));  // whatever was put there meanwhile is let go
  }
  return nullptr;
}

void give_back(Block* block) {
  if (block->capacity <= largest_kept) {
    for (std::atomic<Block*>& slot : cache) {
      Block* none = nullptr;
      if (slot.compare_exchange_strong(none, block, std::memory_order_release, std::memory_order_relaxed)) return;
    }
    // All slots are full of blocks that did not serve: replace one, in turn.
    static std::atomic<unsigned> turn{0};
    const unsigned at = turn.fetch_add(1, std::memory_order_relaxed) % kept_blocks;
    block = cache[at].exchange(block, std::memory_order_acq_rel);
  }
  std::free(block);
}

}  // namespace

Workspace::Workspace(index shared, index per_slot, int slots)
    : shared_(whole_lines(shared)), per_slot_(whole_lines(per_slot)) {
  // One odd cache line more a slot: slices a power of two apart would fight for the same sets of the cache.
  if (per_slot_ % 4096 == 0 && per_slot_) per_slot_ += alignment;
  capacity_ = checked_add(shared_, checked_mul(per_slot_, slots));
  if (dry_run) throw Request{shared_, per_slot_, slots, capacity_};
  if (capacity_ == 0) return;
  Block* block = take(capacity_);
  if (!block) {
    // One line before for the Block, one after so that a vector may start at the last element.
    const index bytes = checked_add(capacity_, 2 * alignment);
    block = static_cast<Block*>(std::aligned_alloc(alignment, static_cast<std::size_t>(bytes)));
    if (!block) throw std::bad_alloc();
    block->capacity = capacity_;
  }
  base_ = reinterpret_cast<char*>(block) + alignment;
}

Workspace::DryRun::DryRun() { dry_run = true; }
Workspace::DryRun::~DryRun() { dry_run = false; }

Workspace::~Workspace() {
  if (base_) give_back(reinterpret_cast<Block*>(base_ - alignment));
}

}  // namespace konv
