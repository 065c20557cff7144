// Token ids from .npy and raw files: every integer type, and headers that lie.
#include "ptq/tokenizer/token_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "ptq/base/error.h"

namespace ptq {
namespace {

using Ids = std::vector<int64_t>;

class TokenFile : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& bytes) {
    const std::string path =
        testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() + "_" + name;
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    paths_.push_back(path);
    return path;
  }

  std::string npy(const std::string& dictionary, const std::string& data, char version = 1) {
    std::string bytes = "\x93NUMPY";
    bytes += {version, '\0', static_cast<char>(dictionary.size()), '\0'};
    if (version > 1) bytes += std::string(2, '\0');
    return write("ids.npy", bytes + dictionary + data);
  }

  static std::string dictionary(const std::string& descr, const std::string& shape) {
    return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
  }

  void TearDown() override {
    for (const std::string& path : paths_) std::filesystem::remove(path);
  }

  std::vector<std::string> paths_;
};

TEST_F(TokenFile, RawIntegersAreLittleEndian) {
  const std::string bytes("\x01\x02\xFF\x00\x00\x00\x00\x01", 8);
  EXPECT_EQ(read_token_file(write("a.bin", bytes), "u16"), (Ids{0x201, 0xFF, 0, 0x100}));
  EXPECT_EQ(read_token_file(write("b.bin", bytes), "int32"), (Ids{0xFF0201, 0x1000000}));
  EXPECT_EQ(read_token_file(write("c.bin", bytes), "u64"), (Ids{0x0100000000FF0201}));
}

TEST_F(TokenFile, NegativeIdIsAnError) {
  EXPECT_THROW(read_token_file(write("a.bin", "\xFF\xFF"), "i16"), Error);
  EXPECT_EQ(read_token_file(write("b.bin", "\xFF\xFF"), "u16"), (Ids{0xFFFF}));
}

TEST_F(TokenFile, IdBeyond63BitsIsAnError) {
  EXPECT_THROW(read_token_file(write("a.bin", std::string(8, '\xFF')), "u64"), Error);
}

TEST_F(TokenFile, RawFileWithHalfAnIntegerIsAnError) {
  EXPECT_THROW(read_token_file(write("a.bin", "abc"), "u16"), Error);
}

TEST_F(TokenFile, RawFileWithoutATypeIsAnError) {
  EXPECT_THROW(read_token_file(write("a.bin", "ab"), ""), Error);
}

TEST_F(TokenFile, UnknownTypeIsAnErrorWithASuggestion) {
  try {
    read_token_file(write("a.bin", "ab"), "uint61");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean"), std::string::npos) << error.what();
  }
}

TEST_F(TokenFile, NpyOfEveryVersionIsRead) {
  const std::string data("\x01\x00\x02\x00", 4);
  for (const char version : {'\1', '\2', '\3'}) {
    EXPECT_EQ(read_token_file(npy(dictionary("<u2", "(2,)"), data, version), ""), (Ids{1, 2}));
  }
}

TEST_F(TokenFile, NpyMatrixIsReadRowByRow) {
  EXPECT_EQ(read_token_file(npy(dictionary("|u1", "(2, 3)"), "\1\2\3\4\5\6"), ""), (Ids{1, 2, 3, 4, 5, 6}));
}

TEST_F(TokenFile, NpyInBigEndianOrderIsRead) {
  EXPECT_EQ(read_token_file(npy(dictionary(">i4", "(1,)"), std::string("\0\0\1\2", 4)), ""), (Ids{0x102}));
}

TEST_F(TokenFile, NpyWithoutEntriesGivesNoIds) {
  EXPECT_EQ(read_token_file(npy(dictionary("<i8", "(0,)"), ""), ""), Ids{});
}

TEST_F(TokenFile, NpyTypeMustAgreeWithTheOneAskedFor) {
  const std::string path = npy(dictionary("<u2", "(1,)"), std::string(2, '\1'));
  EXPECT_EQ(read_token_file(path, "u16"), (Ids{0x101}));
  EXPECT_THROW(read_token_file(path, "i16"), Error);
}

TEST_F(TokenFile, NpyOfFloatsIsAnError) {
  EXPECT_THROW(read_token_file(npy(dictionary("<f4", "(1,)"), "abcd"), ""), Error);
}

TEST_F(TokenFile, NpyOfThreeDimensionsIsAnError) {
  EXPECT_THROW(read_token_file(npy(dictionary("|u1", "(1, 1, 1)"), "a"), ""), Error);
}

TEST_F(TokenFile, NpyWithLessDataThanItsShapeIsAnError) {
  EXPECT_THROW(read_token_file(npy(dictionary("|u1", "(4,)"), "abc"), ""), Error);
}

TEST_F(TokenFile, NpyWithMoreDataThanItsShapeIsAnError) {
  EXPECT_THROW(read_token_file(npy(dictionary("|u1", "(2,)"), "abc"), ""), Error);
}

TEST_F(TokenFile, NpyWhoseShapeOverflowsIsAnError) {
  EXPECT_THROW(read_token_file(npy(dictionary("|u1", "(99999999999, 99999999999)"), "abc"), ""), Error);
  EXPECT_THROW(read_token_file(npy(dictionary("|u1", "(99999999999999999999,)"), "abc"), ""), Error);
}

TEST_F(TokenFile, NpyInFortranOrderIsAnErrorUnlessARow) {
  const auto fortran = [](const std::string& shape) {
    return "{'descr': '|u1', 'fortran_order': True, 'shape': " + shape + "}";
  };
  EXPECT_EQ(read_token_file(npy(fortran("(2,)"), "\1\2"), ""), (Ids{1, 2}));
  EXPECT_THROW(read_token_file(npy(fortran("(2, 1)"), "\1\2"), ""), Error);
}

TEST_F(TokenFile, MalformedNpyHeaderIsAnError) {
  for (const char* text :
       {"", "{", "{}", "{'descr': '|u1'}", "{'descr': [('a', '<i4')], 'fortran_order': False}",
        "{'descr': '|u1', 'fortran_order': maybe, 'shape': (1,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1,), 'x': '1'}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)} x"}) {
    EXPECT_THROW(read_token_file(npy(text, "a"), ""), Error) << text;
  }
}

TEST_F(TokenFile, NpyHeaderLongerThanTheFileIsAnError) {
  EXPECT_THROW(read_token_file(write("a.npy", std::string("\x93NUMPY\1\0\xFF\x7F{", 11)), ""), Error);
  EXPECT_THROW(read_token_file(write("b.npy", "\x93NUM"), ""), Error);
}

TEST_F(TokenFile, MissingFileIsAnError) {
  EXPECT_THROW(read_token_file("/nonexistent.npy", ""), Error);
}

}  // namespace
}  // namespace ptq
