// A Service Class User made of dcmjs-dimse: sends requests in one association, prints what came.
//
//   node scu.js HOST PORT CALLED_AE_TITLE REQUESTS
//
// REQUESTS is a JSON list of
//
//   {"kind": "echo"}
//   {"kind": "store", "file": PATH}
//   {"kind": "find", "level": "STUDY", "keys": {KEYWORD: VALUE}}
//   {"kind": "move", "level": "STUDY", "destination": AE_TITLE, "uids": [STUDY, ...]}
//   {"kind": "get", "level": "STUDY", "folder": PATH, "uids": [STUDY, ...]}
//
// where uids are the unique keys down to that level. What a C-GET brings is written to its folder,
// in files named by SOP Instance UID. Printed is a JSON list with, for each request, the statuses
// of its responses, their data sets, by keyword, and the last one's counters of sub-operations:
// completed, failed, warning.
'use strict';

const path = require('node:path');
const { Client, constants, log, requests, responses } = require('dcmjs-dimse');

const CALLING_AE_TITLE = 'DCMJS';
const FIND = {
  STUDY: requests.CFindRequest.createStudyFindRequest,
  SERIES: requests.CFindRequest.createSeriesFindRequest,
  IMAGE: requests.CFindRequest.createImageFindRequest,
};
const MOVE = {
  STUDY: requests.CMoveRequest.createStudyMoveRequest,
  SERIES: requests.CMoveRequest.createSeriesMoveRequest,
  IMAGE: requests.CMoveRequest.createImageMoveRequest,
};
const GET = {
  STUDY: requests.CGetRequest.createStudyGetRequest,
  SERIES: requests.CGetRequest.createSeriesGetRequest,
  IMAGE: requests.CGetRequest.createImageGetRequest,
};
const MAKE = {
  echo: () => new requests.CEchoRequest(),
  store: ({ file }) => new requests.CStoreRequest(file),
  find: ({ level, keys }) => FIND[level](keys),
  move: ({ level, destination, uids }) => MOVE[level](destination, ...uids),
  get: ({ level, uids }) => GET[level](...uids),
};

function main([host, port, calledAeTitle, wanted]) {
  log.setLevel('silent');
  const client = new Client();
  const asked = JSON.parse(wanted);
  const answers = asked.map((each) => {
    const answer = { statuses: [], data_sets: [], counters: [] };
    const request = MAKE[each.kind](each);
    request.on('response', (response) => {
      answer.statuses.push(response.getStatus());
      if (response.getCompleted) {
        answer.counters = [
          response.getCompleted(),
          response.getFailures(),
          response.getWarnings(),
        ];
      }
      if (response.hasDataset()) {
        answer.data_sets.push(response.getDataset().getElements());
      }
    });
    client.addRequest(request);
    return answer;
  });
  client.on('cStoreRequest', (request, callback) => {
    const folder = asked.find((each) => each.kind === 'get').folder;
    request.getDataset().toFile(path.join(folder, request.getAffectedSopInstanceUid()));
    const response = responses.CStoreResponse.fromRequest(request);
    response.setStatus(constants.Status.Success);
    callback(response);
  });
  client.on('associationRejected', (result) => fail(`rejected: ${JSON.stringify(result)}`));
  client.on('networkError', (error) => fail(`network error: ${error.message}`));
  client.on('closed', () => process.stdout.write(JSON.stringify(answers)));
  client.send(host, Number(port), CALLING_AE_TITLE, calledAeTitle);
}

function fail(reason) {
  process.stderr.write(`${reason}\n`);
  process.exitCode = 1;
}

main(process.argv.slice(2));
