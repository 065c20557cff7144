// Transforms written and read back, and what is refused of damaged ones.
#include "artifact/transform_io.h"

#include <gtest/gtest.h>

#include <cmath>

#include "../base/expect_error.h"
#include "../base/temp_directory.h"
#include "../support/toy_models.h"

namespace ptq {
namespace {

const char* const kKey = "backbone.layers.3.mixer.sites.ssm.output";

Tensor orthogonal(int64_t n) {
  return std::get<0>(at::linalg_qr(at::randn({n, n}, at::kDouble))).to(at::kFloat);
}

// What write_transform() makes of a transform: the configuration's list and the tensors, to be damaged.
struct Written {
  explicit Written(const Transform& transform) {
    stages = write_transform(transform, kKey, [this](const std::string& name, const Tensor& tensor) {
      EXPECT_TRUE(tensors.emplace(name, tensor).second) << name;
    });
  }
  Tensor& tensor(const std::string& end) { return tensors.at(kKey + end); }
  Transform read() const {
    const TempDirectory directory;
    testing::TensorMap all = tensors;
    all["backbone.norm_f.weight"] = at::ones({2});  // a file has other tensors too
    testing::write_safetensors(directory / "model.safetensors", all);
    const auto checkpoint = open_checkpoint(directory / "model.safetensors");
    return read_transform(parse_json(stages.dump(), "test"), kKey, *checkpoint);
  }

  Json stages;
  testing::TensorMap tensors;
};

// Every kind of stage, some twice, for 24 channels.
Transform all_stages() {
  at::manual_seed(1);
  const auto signs = [] { return Signs{at::randint(0, 2, {24}).to(at::kFloat) * 2 - 1}; };
  return {{signs(), make_block_hadamard(24, 8), Permutation{at::randperm(24)}, BlockRotation{orthogonal(8)},
           signs(), BlockRotation{orthogonal(8)}, Permutation{at::randperm(24)}, make_hadamard(24),
           Permutation{at::randperm(24)}}};
}

TEST(TransformIo, WhatWasWrittenIsReadBack) {
  const Transform transform = all_stages();
  const Transform again = Written(transform).read();
  EXPECT_EQ(transform_text(again), transform_text(transform));
  const Tensor x = at::randn({5, 24});
  EXPECT_TRUE(at::equal(again.apply(x), transform.apply(x)));
  EXPECT_TRUE(at::equal(again.apply_inverse(x), transform.apply_inverse(x)));
}

TEST(TransformIo, EachKindOfStageAloneIsReadBack) {
  for (const TransformOp& stage : all_stages().stages) {
    const Transform transform{{stage}};
    const Transform again = Written(transform).read();
    EXPECT_EQ(transform_text(again), transform_text(transform));
    const Tensor x = at::randn({5, 24});
    EXPECT_TRUE(at::equal(again.apply(x), transform.apply(x)));
  }
  EXPECT_TRUE(Written(Transform{}).read().empty());
}

TEST(TransformIo, TensorsAreNumberedAndRotationsShareOne) {
  Written written(all_stages());
  std::vector<std::string> names;
  for (const auto& [name, tensor] : written.tensors) names.push_back(name.substr(std::string(kKey).size()));
  EXPECT_EQ(names, (std::vector<std::string>{".permutation", ".permutation_1", ".permutation_2", ".rotation",
                                             ".signs", ".signs_1"}));
  EXPECT_EQ(written.tensor(".rotation").sizes(), at::IntArrayRef({2, 8, 8}));
  EXPECT_EQ(written.tensor(".permutation").scalar_type(), at::kInt);
  EXPECT_EQ(written.tensor(".signs").scalar_type(), at::kChar);
}

struct Damage {
  const char* name;
  std::function<void(Written&)> apply;
  const char* words;  // of the message
};

class DamagedTransform : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedTransform, IsAnErrorThatNamesThePlace) {
  Written written(all_stages());
  for (auto& [name, tensor] : written.tensors) tensor = tensor.clone();
  GetParam().apply(written);
  EXPECT_ERROR(written.read(), ExitCode::kFailed, kKey);
  EXPECT_ERROR(written.read(), ExitCode::kFailed, GetParam().words);
}

const Damage kDamages[] = {
    {"IndexTwice", [](Written& w) { w.tensor(".permutation")[3] = w.tensor(".permutation")[4]; },
     ".permutation: is no permutation of its 24 channels"},
    {"IndexTooLarge",
     [](Written& w) { w.tensor(".permutation_1").masked_fill_(w.tensor(".permutation_1") == 23, 24); },
     ".permutation_1: is no permutation"},
    {"IndexBelowZero",
     [](Written& w) { w.tensor(".permutation").masked_fill_(w.tensor(".permutation") == 0, -1); },
     "is no permutation"},
    {"IndexOfAnotherType",
     [](Written& w) { w.tensor(".permutation") = w.tensor(".permutation").to(at::kLong); },
     "is I64 [24] where I32 [channels] is needed"},
    {"IndexOfTwoDimensions",
     [](Written& w) { w.tensor(".permutation") = w.tensor(".permutation").reshape({4, 6}); },
     "is I32 [4, 6] where"},
    {"NoIndex", [](Written& w) { w.tensor(".permutation") = at::zeros({0}, at::kInt); }, "is I32 [0] where"},
    {"SignOfZero", [](Written& w) { w.tensor(".signs_1")[7] = 0; },
     ".signs_1: has entries other than +1 and -1"},
    {"SignOfTwo", [](Written& w) { w.tensor(".signs")[0] = -2; }, ".signs: has entries other than"},
    {"SignOf128", [](Written& w) { w.tensor(".signs")[0] = -128; }, ".signs: has entries other than"},
    {"SignsInFloat", [](Written& w) { w.tensor(".signs") = w.tensor(".signs").to(at::kFloat); },
     "is F32 [24] where I8 [channels] is needed"},
    {"RotationSheared",
     [](Written& w) { w.tensor(".rotation")[1][0].add_(w.tensor(".rotation")[1][1], 0.01); },
     ".rotation: rotation 1 is not orthogonal"},
    {"RotationOfZeros", [](Written& w) { w.tensor(".rotation")[0].zero_(); }, "rotation 0 is not orthogonal"},
    {"RotationWithNan", [](Written& w) { w.tensor(".rotation")[1][2][3] = NAN; },
     "rotation 1 is not orthogonal"},
    {"RotationWithInfinity", [](Written& w) { w.tensor(".rotation")[0][0][0] = INFINITY; },
     "rotation 0 is not orthogonal"},
    {"RotationNotSquare", [](Written& w) { w.tensor(".rotation") = w.tensor(".rotation").slice(1, 0, 7); },
     "is F32 [2, 7, 8] where F32 [rotations, block, block] is needed"},
    {"RotationAlone", [](Written& w) { w.tensor(".rotation") = w.tensor(".rotation")[0]; },
     "is F32 [8, 8] where"},
    {"RotationInDouble", [](Written& w) { w.tensor(".rotation") = w.tensor(".rotation").to(at::kDouble); },
     "is F64 [2, 8, 8] where"},
    {"OneRotationOfTwo", [](Written& w) { w.tensor(".rotation") = w.tensor(".rotation").slice(0, 0, 1); },
     ".rotation: has 1 rotations; the configuration names more"},
    {"NoPermutation", [](Written& w) { w.tensors.erase(kKey + std::string(".permutation_2")); },
     ".permutation_2"},
    {"NoRotation", [](Written& w) { w.tensors.erase(kKey + std::string(".rotation")); }, ".rotation"},
    {"NoSigns", [](Written& w) { w.tensors.erase(kKey + std::string(".signs")); }, ".signs"},
    {"UnknownStage", [](Written& w) { w.stages[2]["type"] = "shear"; }, "is not one this program reads"},
    {"StageWithoutType", [](Written& w) { w.stages[2].erase("type"); }, "is not one this program reads"},
    {"TypeOfAnotherKind", [](Written& w) { w.stages[2]["type"] = 3; }, "is not one this program reads"},
    {"StageThatIsNoObject", [](Written& w) { w.stages[2] = "permutation"; }, "is not one this program reads"},
    {"HadamardOfAnotherSize", [](Written& w) { w.stages[1]["block"] = 9; },
     "is not one this program can make"},
    {"NoList", [](Written& w) { w.stages = {{"type", "signs"}}; }, "is not a list of at most 16 stages"},
    {"SeventeenStages",
     [](Written& w) {
       w.stages = Json::array();
       for (int i = 0; i < 17; ++i) w.stages.push_back(Written(Transform{{make_hadamard(8)}}).stages[0]);
     },
     "is not a list of at most 16 stages"},
};

INSTANTIATE_TEST_SUITE_P(Damages, DamagedTransform, ::testing::ValuesIn(kDamages),
                         [](const auto& damage) { return std::string(damage.param.name); });

TEST(TransformIo, SixteenStagesAreRead) {
  Transform transform;
  for (int i = 0; i < 16; ++i) transform.stages.emplace_back(make_hadamard(8));
  EXPECT_EQ(Written(transform).read().stages.size(), 16U);
}

TEST(TransformIo, RotationThatRoundingHasLeftSlightlyOffIsRead) {
  Written written(all_stages());
  written.tensor(".rotation") = written.tensor(".rotation").to(at::kHalf).to(at::kFloat);
  EXPECT_LT(written.read().orthogonality_error(), 1e-3);
}

}  // namespace
}  // namespace ptq
