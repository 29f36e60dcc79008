// A Service Class User made of dcmjs-dimse: sends requests in one association, prints what came.
//
//   node scu.js HOST PORT CALLED_AE_TITLE REQUESTS
//
// REQUESTS is a JSON list of {"kind": "echo"}, {"kind": "store", "file": PATH} and
// {"kind": "find", "level": "STUDY", "keys": {KEYWORD: VALUE}}. Printed is a JSON list with, for
// each request, the statuses of its responses and their data sets, by keyword.
'use strict';

const { Client, log, requests } = require('dcmjs-dimse');

const CALLING_AE_TITLE = 'DCMJS';
const FIND = {
  STUDY: requests.CFindRequest.createStudyFindRequest,
  SERIES: requests.CFindRequest.createSeriesFindRequest,
  IMAGE: requests.CFindRequest.createImageFindRequest,
};
const MAKE = {
  echo: () => new requests.CEchoRequest(),
  store: ({ file }) => new requests.CStoreRequest(file),
  find: ({ level, keys }) => FIND[level](keys),
};

function main([host, port, calledAeTitle, wanted]) {
  log.setLevel('silent');
  const client = new Client();
  const answers = JSON.parse(wanted).map((each) => {
    const answer = { statuses: [], data_sets: [] };
    const request = MAKE[each.kind](each);
    request.on('response', (response) => {
      answer.statuses.push(response.getStatus());
      if (response.hasDataset()) {
        answer.data_sets.push(response.getDataset().getElements());
      }
    });
    client.addRequest(request);
    return answer;
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
