// A Storage Service Class Provider made of dcmjs-dimse: writes each Data Set as it came to a file.
//
//   node scp.js PORT FOLDER
//
// The files are named by SOP Instance UID. It says "listening" and runs until it is killed.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { constants, log, responses, Scp, Server } = require('dcmjs-dimse');

const { PresentationContextResult, Status } = constants;

class KeepingScp extends Scp {
  associationRequested(association) {
    for (const { id } of association.getPresentationContexts()) {
      const context = association.getPresentationContext(id);
      context.setResult(PresentationContextResult.Accept, context.getTransferSyntaxUids()[0]);
    }
    this.sendAssociationAccept();
  }

  createStoreWritableStream(context, request) {
    return fs.createWriteStream(path.join(FOLDER, request.getAffectedSopInstanceUid()));
  }

  createDatasetFromStoreWritableStream(stream, context, callback) {
    stream.end(() => callback(undefined));
  }

  cStoreRequest(request, callback) {
    const response = responses.CStoreResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
  }

  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }
}

const [PORT, FOLDER] = process.argv.slice(2);
log.setLevel('silent');
const server = new Server(KeepingScp);
server.on('networkError', (error) => process.stderr.write(`network error: ${error.message}\n`));
server.listen(Number(PORT));
process.stdout.write('listening\n');
