-- Orthanc calls OnStableStudy when a study has not changed for StableAge seconds. The radiographs of the study go to the
-- modality "trcgl" by C-STORE, and its structured report comes back by C-STORE. The report changes the study, which
-- becomes stable again: each radiograph is marked with the metadata 1024, and only unmarked ones are sent.

local RADIOGRAPHS = {
  ['1.2.840.10008.5.1.4.1.1.1'] = true,      -- Computed Radiography
  ['1.2.840.10008.5.1.4.1.1.1.1'] = true,    -- Digital X-Ray, for presentation
  ['1.2.840.10008.5.1.4.1.1.1.1.1'] = true,  -- Digital X-Ray, for processing
}
local SENT = '/metadata/1024'

function OnStableStudy(studyId, tags, metadata)
  local waiting = {}
  for _, instance in ipairs(ParseJson(RestApiGet('/studies/' .. studyId .. '/instances'))) do
    local address = '/instances/' .. instance['ID']
    local kind = ParseJson(RestApiGet(address .. '/metadata?expand'))
    if RADIOGRAPHS[kind['SopClassUid']] and kind['1024'] == nil then
      table.insert(waiting, instance['ID'])
    end
  end
  if #waiting == 0 then
    return
  end
  -- Synchronous: Orthanc offers a study once, so a radiograph is marked only when trcgl has accepted it.
  local answer = RestApiPost('/modalities/trcgl/store', DumpJson({Resources = waiting, Synchronous = true}, true))
  if answer == nil or answer == '' then
    print('trcgl did not accept study ' .. studyId .. '; send it again once trcgl is back')
    return
  end
  for _, id in ipairs(waiting) do
    RestApiPut('/instances/' .. id .. SENT, 'sent')
  end
end
