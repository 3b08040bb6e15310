// Scratch of one call: one aligned slice a thread slot, taken from a small cache and given back at the end.
#pragma once
#include "geometry.hpp"

namespace konv {

class Workspace {
 public:
  // `shared` bytes for all, and `per_slot` bytes for each of `slots`; throws std::bad_alloc before any work is done.
  Workspace(index shared, index per_slot, int slots);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* shared() const {
    return reinterpret_cast<T*>(base_);
  }
  template <class T>
  T* slot(int i) const {
    return reinterpret_cast<T*>(base_ + shared_ + i * per_slot_);
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
  char* base_ = nullptr;
  index shared_ = 0, per_slot_ = 0, capacity_ = 0;
};

}  // namespace konv
