#include "ptq/model/fold_edge.h"

namespace ptq {
namespace {

// The scale of each row of a producer's slice: s [channels] -> [rows], or [rows, 1] for a matrix.
Tensor scale_of_rows(const FoldEdge& edge, const FoldEdge::Rows& producer, const Tensor& s, int64_t dims) {
  Tensor by_row = s;
  if (edge.row_of.defined()) {
    const Tensor row_of = edge.row_of.to(s.device());
    by_row = at::ones({row_of.max().item<int64_t>() + 1}, s.options());
    by_row.index_copy_(0, row_of, s);  // channels of one row have one scale
  }
  if (producer.power != 1) by_row = by_row.pow(producer.power);
  return dims == 1 ? by_row : by_row.unsqueeze(1);
}

// The producer's value with its slice of rows changed by `scale`, offset taken into account. A value without
// an offset is not moved by adding zero to it: that would lose the sign of -0.
template <typename Scale>
Tensor with_scaled_rows(const FoldEdge::Rows& producer, const Tensor& value, const Tensor& by_row,
                        const Scale& scale) {
  Tensor result = value.clone();
  Tensor rows = result.slice(0, producer.first, producer.first + by_row.size(0));
  if (producer.offset != 0) rows.add_(producer.offset);
  scale(rows, by_row);
  if (producer.offset != 0) rows.sub_(producer.offset);
  return result;
}

}  // namespace

void fold_scales(const FoldEdge& edge, const Tensor& s) {
  for (const FoldEdge::Rows& producer : edge.producers) {
    const Tensor value = producer.weight->values();
    producer.weight->set(with_scaled_rows(producer, value, scale_of_rows(edge, producer, s, value.dim()),
                                          [](Tensor& rows, const Tensor& by_row) { rows.div_(by_row); }));
  }
  for (Linear* reader : edge.readers) reader->weight.set(reader->weight.values() * s);
}

Tensor unfolded(const FoldEdge& edge, const FoldEdge::Rows& producer, const Tensor& s, const Tensor& value) {
  return with_scaled_rows(producer, value, scale_of_rows(edge, producer, s, value.dim()),
                          [](Tensor& rows, const Tensor& by_row) { rows.mul_(by_row); });
}

}  // namespace ptq
