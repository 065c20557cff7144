// What a state-space scan carries between tokens: floats, or the codes to which its site rounds them.
#pragma once

#include "ptq/model/part.h"

namespace ptq {

// The site of a scan over `channels`: sees the state after the last token of a call as [batch, N, channels].
Site make_state_site(int64_t channels);

// The state before the first token: zeros of `shape`, which is that of the scan, [batch, channels, N] or
// [batch, heads, N, channels of a head]; codes where the site has static scales.
Tensor first_scan_state(const Site& site, at::IntArrayRef shape, const at::TensorOptions& options);

// The state that the scan reads and writes: `stored` itself where it is floats of `shape`; a copy of what its
// codes stand for; zeros where there is none (undefined) and an observer wants to see the last one; else
// undefined.
Tensor scan_state(const Site& site, const Tensor& stored, at::IntArrayRef shape,
                  const at::TensorOptions& options, const Observer* observer);

// Shows `h`, which the scan has left, to the observer and rounds it into `stored`, if these are codes or the
// site rounds at all. Both may be null.
void keep_scan_state(const Site& site, const Tensor& h, Tensor* stored, Observer* observer);

}  // namespace ptq
