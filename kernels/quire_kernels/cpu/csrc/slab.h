// Memory for weights: 2 MiB pages where the system has them, which more than one weight may share.
//
// A product with few rows reads weights at the speed of memory, and with pages of 4 KiB the walks of the page
// table cost a third of that.
#pragma once

#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <mutex>

namespace quire {

class Slab {
 public:
  explicit Slab(size_t bytes) : bytes_(bytes) {
    void* memory =
        mmap(nullptr, bytes_ + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(memory != MAP_FAILED, "no memory for ", bytes_, " bytes of weights");
    mapped_ = (char*)memory;
    start_ = (char*)(((uintptr_t)memory + kHuge - 1) / kHuge * kHuge);
#if defined(MADV_HUGEPAGE)
    madvise(start_, bytes_, MADV_HUGEPAGE);
#endif
  }
  ~Slab() { munmap(mapped_, bytes_ + kHuge); }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // A tensor of zeros, in the slab that the last call used if there is room. The slab lives as long as any
  // tensor in it.
  static at::Tensor zeros(at::IntArrayRef sizes, at::ScalarType type) {
    static std::mutex mutex;
    static std::weak_ptr<Slab> last;
    const size_t bytes = c10::multiply_integers(sizes) * c10::elementSize(type);
    std::lock_guard<std::mutex> lock(mutex);
    std::shared_ptr<Slab> slab = last.lock();
    if (!slab || slab->used_ + bytes > slab->bytes_) {
      slab = std::make_shared<Slab>(std::max((bytes + kHuge - 1) / kHuge * kHuge, kLeast));
      last = slab;
    }
    void* place = slab->start_ + slab->used_;
    slab->used_ += (bytes + 63) / 64 * 64;
    return at::from_blob(place, sizes, [slab](void*) {}, at::TensorOptions(type));
  }

 private:
  static constexpr size_t kHuge = 1 << 21, kLeast = 1 << 26;
  char *mapped_, *start_;
  size_t bytes_, used_ = 0;
};

}  // namespace quire
