// Work on several threads: torch's own, as many as torch.set_num_threads says.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

namespace tidegate {

// Below this many operations a second thread costs more than it brings.
constexpr int64_t kWorthAThread = 1 << 22;

// Calls work(begin, end) for nearly equal slices of 0 to count, one for each thread.
template <typename Work>
void for_each_slice(int64_t count, int64_t operations, const Work& work) {
  const int64_t worth = std::max<int64_t>(1, operations / kWorthAThread);
  const int64_t slices = std::min({static_cast<int64_t>(at::get_num_threads()), count, worth});
  at::parallel_for(0, slices, 1, [&](int64_t first, int64_t last) {
    for (int64_t index = first; index < last; ++index) {
      work(count * index / slices, count * (index + 1) / slices);
    }
  });
}

}  // namespace tidegate
