// Token files of other places, which a training reads as they are.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "rwkvx/data/token_file.h"

namespace rwkvx {

struct ReadyTokens {
  std::vector<std::shared_ptr<const TokenFile>> files;  // none of them empty
  std::int64_t size = 0;
  std::string hash;  // over their indexes and sizes

  // Appends tokens [begin, end) of all files.
  void add_range(std::int64_t begin, std::int64_t end, std::vector<TokenChain::Part>& parts) const;
  // How many of the tokens are trained on, where the last `valid_fraction` is validated on. At the
  // end of a document if that changes the validation's share by less than half of it.
  std::int64_t train_share(double valid_fraction) const;
};

// Throws DataError for a file that rwkvx built with another tokenizer, or did not finish.
ReadyTokens open_ready(const std::vector<std::filesystem::path>& prefixes,
                       const Tokenizer& tokenizer);

}  // namespace rwkvx
