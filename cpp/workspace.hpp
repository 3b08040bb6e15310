// Memory of results, and scratch of one call: blocks from a small cache of those that earlier ones left behind.
#pragma once
#include "geometry.hpp"

namespace konv {

// 64-byte aligned memory with room for one vector past its end. What it holds at first is anybody's.
class Memory {
 public:
  // A result lives as long as its owner likes, so its block is hardly larger than itself; scratch takes what there is.
  enum class Use { result, scratch };

  explicit Memory(index bytes, Use use = Use::result);  // throws std::bad_alloc
  Memory(Memory&& other) noexcept : data_(other.data_), bytes_(other.bytes_), capacity_(other.capacity_) {
    other.data_ = nullptr;
  }
  Memory(const Memory&) = delete;
  ~Memory();

  void* data() const { return data_; }
  index bytes() const { return bytes_; }

 private:
  void* data_;
  index bytes_, capacity_;
};

// One slice for all, and one for each thread slot.
class Workspace {
 public:
  // `shared` bytes for all, and `per_slot` bytes for each of `slots`; throws std::bad_alloc before any work is done.
  Workspace(index shared, index per_slot, int slots);

  template <class T>
  T* shared() const {
    return static_cast<T*>(memory_.data());
  }
  template <class T>
  T* slot(int i) const {
    return reinterpret_cast<T*>(shared<char>() + shared_ + i * per_slot_);
  }  // 64-byte aligned

  // What was asked for: thrown instead of taking memory while a DryRun of the same thread lives.
  struct Request {
    index shared, per_slot, slots, total;
  };
  struct DryRun {
    DryRun();
    ~DryRun();
  };

 private:
  index shared_, per_slot_;
  Memory memory_;
};

}  // namespace konv
