// The leading eigenvectors of a symmetric matrix, where few of many are wanted.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>

namespace ptq {

using at::Tensor;

// An orthonormal basis of what columns [n, m] span, m <= n. The same bits for any number of threads. [n, m]
Tensor orthonormal(const Tensor& columns);

struct Eigenpairs {
  Tensor values;   // [k], descending
  Tensor vectors;  // [n, k], orthonormal columns
};

// Of a symmetric positive semidefinite G [n, n], float64: the `count` largest, all of them if count is n.
// Their sum is right to 1e-13 of the trace, unless an eigenvalue is repeated, to the last digit, more often
// than the 8 columns of a block that look for it. The same bits for any number of threads.
Eigenpairs top_eigenvectors(const Tensor& G, int64_t count);

// The same of a map on columns that is never formed: `times` takes [n, m] to G times it, float64, and
// `options` are those of its results. `seed` draws the columns to start from. What a space of 8 count + 512
// columns cannot hold to the last digits is as near as it comes there.
Eigenpairs top_eigenvectors(const std::function<Tensor(const Tensor&)>& times, int64_t n, int64_t count,
                            const at::TensorOptions& options, uint64_t seed);

}  // namespace ptq
