// A named activation point of a block: where it is measured, transformed and quantized.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <vector>

#include "ptq/codec/activation.h"
#include "ptq/model/transform.h"

namespace ptq {

// How a site rounds: symmetric with one scale for the whole site or one a channel (static), or with a scale
// per token (dynamic), symmetric or with a zero point.
struct ActivationQuantizer {
  enum class Kind { kNone, kStatic, kDynamic };
  Kind kind = Kind::kNone;
  int bits = 8;
  Tensor scale;           // kStatic: [1], or [channels]
  bool symmetric = true;  // kDynamic only; static ones are symmetric
  double clip = 1;        // kDynamic: what is kept of the ends of a token's range, in (0, 1]
  int64_t group = 0;      // kDynamic: a scale for so many consecutive channels (a head); 0: for all

  // "none", "static", "dynamic": as artifacts and reports spell it.
  const char* kind_name() const;
  // Of the codes that it makes; none if it does not round.
  std::optional<ActivationScheme> scheme() const;

  static ActivationQuantizer fixed(double scale, int bits);  // static
  static ActivationQuantizer fixed(Tensor scale, int bits);  // static; float32 [1] or [channels]
  // Static, with the scale under which |x| = amax is the highest code; for an amax of 0 the authors' floor of
  // 1e-5. The scale is at least 2^-126.
  static ActivationQuantizer covering(double amax, int bits);
  static ActivationQuantizer covering(const Tensor& amax, int bits);  // [channels], a scale each
  // Dynamic.
  static ActivationQuantizer per_token(int bits, bool symmetric = true, double clip = 1, int64_t group = 0);
  // Codes of x [..., channels] with their scale, or x itself if the kind is kNone.
  // Static codes are clamp(round_half_even(x / scale)); dynamic ones those of ops::quantize_symmetric and
  // ops::quantize_asymmetric.
  Activation operator()(const Tensor& x) const;
  // What those codes stand for, float32; x itself if the kind is kNone.
  Tensor rounded(const Tensor& x) const;

 private:
  Tensor scale_on(at::Device device) const;
};

// The kind of a site that decides which layers are used: it is never rounded or transformed.
inline constexpr const char* kRouterInput = "router_input";
// Of the tokens that do not go to an expert an observer of its inner values is shown one in so many too.
inline constexpr int64_t kDrawnOneIn = 16;
// The kind of what a scan carries from token to token. A forward without a state shows observers the last one
// and rounds none; one with a state rounds what it leaves behind.
inline constexpr const char* kStateSite = "state";

// Channels that are heads of a scan, in groups that share B and C; 0 heads elsewhere.
struct HeadsOfScan {
  int64_t heads = 0, groups = 0;
};

struct Site;

// Is shown, on a forward that it is passed to, the values of every site: after its transform, before its
// quantizer.
class Observer {
 public:
  virtual ~Observer() = default;
  // x [batch, length, channels].
  virtual void observe(const Site& site, const Tensor& x) = 0;
};

struct Site {
  std::string name;  // "ssm.x", unique in a block; S of the artifact is "<block prefix>.sites.<name>"
  // What flows here: "linear_input" | "router_input" | "attention" | "internal" | "state".
  std::string kind;
  Transform transform;  // applied online to what arrives
  Tensor smooth;  // [channels], what this site's channels were divided by; already folded into its producers
  bool routed = false;  // sees the tokens that a router sends there, and not all
  bool shared = false;  // something else than linears reads it, so it cannot be transformed
  // Channels of one attention head, or of one group of a Mamba-2's B and C: where values meet in inner
  // products of so many, they are rounded head by head and may be turned. Else 0.
  int64_t head_dim = 0;
  // Where values go on as floats, and never as codes into a product: how many channels there are, each of
  // which may have a static scale of its own. Else 0.
  int64_t channels = 0;
  // Channels of each kind, in order, such as x, B and C of a convolution's input; empty: all of one kind.
  std::vector<int64_t> parts;
  HeadsOfScan heads;  // of the input of Mamba-2's scan
  ActivationQuantizer quantizer;
  // What linears read is rounded, and what else reads a shared site is not: as other programs store it.
  bool rounds_for_linears_alone = false;

  // Whether artifacts and reports have an entry for it: a state's is left out where it stays in float.
  bool is_listed() const { return kind != kStateSite || quantizer.kind != ActivationQuantizer::Kind::kNone; }
  // x [batch, length, channels] transformed and rounded. `observer` may be null.
  Activation operator()(const Tensor& x, Observer* observer) const;
  // The same in float32, for what computes in floats.
  Tensor rounded(const Tensor& x, Observer* observer) const;

 private:
  Tensor seen(const Tensor& x, Observer* observer) const;
};

// The one of that name. Throws Error, with `where` and a suggestion, if there is none.
Site& site_named(const std::string& name, const std::vector<Site*>& sites, const std::string& where);

}  // namespace ptq
