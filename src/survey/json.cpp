// SPDX-License-Identifier: Apache-2.0
#include "vgpu/survey/json.h"

#include "vgpu/survey/causes.h"

namespace vgpu::survey {

Json explanation_json(const Explanation& explanation) {
  Json causes = Json::array();
  for (const auto& cause : explanation.causes) {
    causes.push_back({{"kind", std::string(cause_name(cause.kind))},
                      {"percent", cause.percent ? Json(*cause.percent) : Json(nullptr)},
                      {"text", cause.text},
                      {"do", cause.next.empty() ? Json(nullptr) : Json(cause.next)}});
  }
  return {{"index", explanation.gpu_index}, {"uuid", explanation.gpu.text().data()},
          {"seconds", explanation.seconds}, {"got_percent", explanation.got_percent},
          {"summary", explanation.summary}, {"causes", causes}};
}

}  // namespace vgpu::survey
