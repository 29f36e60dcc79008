-- The second schema of the catalog, with two instances that contradict each other. Never to be changed.
BEGIN TRANSACTION;
CREATE TABLE inconsistency (
        instance_key BIGINT NOT NULL REFERENCES instance (key) ON DELETE CASCADE,
        level INTEGER NOT NULL,
        name TEXT NOT NULL,
        entity_key BIGINT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (instance_key, level, name)
    );
INSERT INTO "inconsistency" VALUES(2,0,'00100010',1,'Example^Two');
CREATE TABLE instance (
        key INTEGER PRIMARY KEY,
        series_key BIGINT NOT NULL REFERENCES series (key),
        transfer_syntax_uid TEXT NOT NULL,
        path TEXT NOT NULL,
        data_set_sha256 BLOB NOT NULL,
        data_set_length_bytes BIGINT NOT NULL,
        source_ae_title TEXT NOT NULL,
        received_at TEXT NOT NULL,
        stated_patient_id TEXT,
        stated_issuer_of_patient_id TEXT,
        sop_instance_uid TEXT NOT NULL,
        instance_number TEXT,
        instance_number_number DOUBLE PRECISION,
        sop_class_uid TEXT NOT NULL,
        content_date TEXT,
        content_date_day INTEGER,
        content_time TEXT,
        content_time_from BIGINT,
        content_time_to BIGINT,
        acquisition_number TEXT,
        acquisition_number_number DOUBLE PRECISION,
        number_of_frames TEXT,
        number_of_frames_number DOUBLE PRECISION,
        container_identifier TEXT,
        container_identifier_match TEXT
    , further TEXT, key_set BIGINT NOT NULL DEFAULT 0);
INSERT INTO "instance" VALUES(1,1,'1.2.840.10008.1.2.1','studies/1.4.1',X'0000000000000000000000000000000000000000000000000000000000000000',100,'SENDER','2026-01-01T00:00:00.000+00:00','EX1',NULL,'1.4.1',NULL,NULL,'1.2.840.10008.5.1.4.1.1.2',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1);
INSERT INTO "instance" VALUES(2,1,'1.2.840.10008.1.2.1','studies/1.4.2',X'0000000000000000000000000000000000000000000000000000000000000000',100,'SENDER','2026-01-01T00:00:00.000+00:00','EX1',NULL,'1.4.2',NULL,NULL,'1.2.840.10008.5.1.4.1.1.2',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1);
CREATE TABLE key_set (key INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
INSERT INTO "key_set" VALUES(1,'["00080008 CS IMAGE", "0008001A UI IMAGE", "00080022 DA IMAGE", "0008002A DT IMAGE", "00080032 TM IMAGE", "00080051 SQ STUDY", "00080068 CS SERIES", "00080081 ST SERIES", "00080096 SQ STUDY", "0008009C PN STUDY", "0008009D SQ STUDY", "00081032 SQ STUDY", "0008103F SQ SERIES", "00081040 LO SERIES", "00081041 SQ SERIES", "00081048 PN STUDY", "00081049 SQ STUDY", "00081050 PN SERIES", "00081052 SQ SERIES", "00081060 PN STUDY", "00081062 SQ STUDY", "00081070 PN SERIES", "00081072 SQ SERIES", "00081080 LO STUDY", "00081084 SQ STUDY", "00081110 SQ STUDY", "00081111 SQ SERIES", "00081120 SQ PATIENT", "00081250 SQ SERIES", "00082218 SQ IMAGE", "00083001 SQ IMAGE", "00100022 CS PATIENT", "00100024 SQ PATIENT", "00100026 SQ PATIENT", "00100027 SQ PATIENT", "00100033 LO PATIENT", "00100034 LO PATIENT", "00100035 CS PATIENT", "00100200 CS PATIENT", "00100212 UC PATIENT", "00100213 LO PATIENT", "00100216 SQ PATIENT", "00100218 UT PATIENT", "00100219 SQ PATIENT", "00100221 SQ PATIENT", "00101001 PN PATIENT", "00101002 SQ PATIENT", "00101021 SQ STUDY", "00101022 DS STUDY", "00101023 DS STUDY", "00101024 DS STUDY", "00101100 SQ PATIENT", "00102000 LO STUDY", "00102110 LO STUDY", "00102161 SQ PATIENT", "001021A0 CS STUDY", "001021C0 US STUDY", "001021D0 DA STUDY", "00102201 LO PATIENT", "00102202 SQ PATIENT", "00102203 CS STUDY", "00102210 CS SERIES", "00102292 LO PATIENT", "00102293 SQ PATIENT", "00102294 SQ PATIENT", "00102297 PN PATIENT", "00102298 CS PATIENT", "00102299 LO PATIENT", "00120010 LO PATIENT", "00120020 LO PATIENT", "00120021 LO PATIENT", "00120030 LO PATIENT", "00120031 LO PATIENT", "00120040 LO PATIENT", "00120042 LO PATIENT", "00120050 LO STUDY", "00120051 ST STUDY", "00120052 FD STUDY", "00120053 CS STUDY", "00120060 LO SERIES", "00120062 CS PATIENT", "00120063 LO PATIENT", "00120064 SQ PATIENT", "00120071 LO SERIES", "00120072 LO SERIES", "00120081 LO PATIENT", "00120082 LO PATIENT", "00120083 SQ STUDY", "00181000 LO SERIES", "00181002 UI SERIES", "00181008 LO SERIES", "0018100A SQ SERIES", "0018100B UI SERIES", "00181020 LO SERIES", "00181050 DS SERIES", "00181200 DA SERIES", "00181201 TM SERIES", "00181204 DA SERIES", "00181205 DA SERIES", "00185100 CS SERIES", "0018990C SQ SERIES", "0018990D SQ SERIES", "00200062 CS IMAGE", "00201040 LO SERIES", "00201070 IS STUDY", "00204000 LT IMAGE", "00280010 US IMAGE", "00280011 US IMAGE", "00282110 CS IMAGE", "00321033 LO STUDY", "00321034 SQ STUDY", "00321066 UT STUDY", "00321067 SQ STUDY", "00380010 LO STUDY", "00380014 SQ STUDY", "00380060 LO STUDY", "00380062 LO STUDY", "00380064 SQ STUDY", "00380500 LO STUDY", "00400250 DA SERIES", "00400251 TM SERIES", "00400253 SH SERIES", "00400254 LO SERIES", "00400260 SQ SERIES", "00400275 SQ SERIES", "00400280 ST SERIES", "00400560 SQ IMAGE", "00401012 SQ STUDY", "0040A043 SQ IMAGE", "0040A370 SQ IMAGE", "0040A491 CS IMAGE", "0040A493 CS IMAGE", "0040A504 SQ IMAGE", "00420010 ST IMAGE", "00700080 CS IMAGE", "00700081 LO IMAGE", "00700082 DA IMAGE", "00700083 TM IMAGE", "00700084 PN IMAGE", "300A0700 UI SERIES"]');
CREATE TABLE patient (
        key INTEGER PRIMARY KEY,
        patient_id TEXT,
        patient_id_match TEXT,
        patient_name TEXT,
        patient_name_folded TEXT,
        patient_name_alphabetic TEXT,
        patient_name_ideographic TEXT,
        patient_name_phonetic TEXT,
        issuer_of_patient_id TEXT,
        issuer_of_patient_id_match TEXT,
        patient_birth_date TEXT,
        patient_birth_date_day INTEGER,
        patient_birth_time TEXT,
        patient_birth_time_from BIGINT,
        patient_birth_time_to BIGINT,
        patient_sex TEXT,
        ethnic_group TEXT,
        ethnic_group_match TEXT,
        patient_comments TEXT,
        patient_comments_match TEXT
    , further TEXT);
INSERT INTO "patient" VALUES(1,'EX1','EX1','Example^One','example^one','example^one',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"00101001":[["A^B","a^b","a^b","",""],["C","c","c","",""]]}');
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO "schema_version" VALUES(2);
CREATE TABLE series (
        key INTEGER PRIMARY KEY,
        study_key BIGINT NOT NULL REFERENCES study (key),
        series_instance_uid TEXT NOT NULL,
        modality TEXT,
        series_number TEXT,
        series_number_number DOUBLE PRECISION,
        series_description TEXT,
        series_description_match TEXT,
        series_date TEXT,
        series_date_day INTEGER,
        series_time TEXT,
        series_time_from BIGINT,
        series_time_to BIGINT,
        body_part_examined TEXT,
        laterality TEXT,
        protocol_name TEXT,
        protocol_name_match TEXT,
        performed_procedure_step_start_date TEXT,
        performed_procedure_step_start_date_day INTEGER,
        performed_procedure_step_start_time TEXT,
        performed_procedure_step_start_time_from BIGINT,
        performed_procedure_step_start_time_to BIGINT,
        frame_of_reference_uid TEXT,
        manufacturer TEXT,
        manufacturer_match TEXT,
        manufacturer_model_name TEXT,
        manufacturer_model_name_match TEXT,
        institution_name TEXT,
        institution_name_match TEXT,
        station_name TEXT,
        station_name_match TEXT
    , further TEXT, statement BLOB);
INSERT INTO "series" VALUES(1,1,'1.3.1',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,X'7D4E67C142963C899337D96D165E28E231');
CREATE TABLE study (
        key INTEGER PRIMARY KEY,
        patient_key BIGINT NOT NULL REFERENCES patient (key),
        study_instance_uid TEXT NOT NULL,
        study_date TEXT,
        study_date_day INTEGER,
        study_time TEXT,
        study_time_from BIGINT,
        study_time_to BIGINT,
        accession_number TEXT,
        accession_number_match TEXT,
        study_id TEXT,
        study_id_match TEXT,
        referring_physician_name TEXT,
        referring_physician_name_folded TEXT,
        referring_physician_name_alphabetic TEXT,
        referring_physician_name_ideographic TEXT,
        referring_physician_name_phonetic TEXT,
        study_description TEXT,
        study_description_match TEXT,
        patient_age TEXT,
        patient_size TEXT,
        patient_size_number DOUBLE PRECISION,
        patient_weight TEXT,
        patient_weight_number DOUBLE PRECISION,
        occupation TEXT,
        occupation_match TEXT,
        additional_patient_history TEXT,
        additional_patient_history_match TEXT,
        further TEXT);
INSERT INTO "study" VALUES(1,1,'1.2.1',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE UNIQUE INDEX patient_identity
    ON patient (patient_id_match, COALESCE(issuer_of_patient_id_match, ''))
    ;
CREATE INDEX patient_name_folded ON patient (patient_name_folded);
CREATE INDEX patient_name_alphabetic ON patient (patient_name_alphabetic);
CREATE INDEX patient_name_ideographic ON patient (patient_name_ideographic);
CREATE INDEX patient_name_phonetic ON patient (patient_name_phonetic);
CREATE INDEX patient_birth_date ON patient (patient_birth_date_day);
CREATE UNIQUE INDEX study_uid ON study (study_instance_uid);
CREATE INDEX study_patient ON study (patient_key);
CREATE INDEX study_accession_number ON study (accession_number_match);
CREATE INDEX study_id ON study (study_id_match);
CREATE UNIQUE INDEX series_uid ON series (study_key, series_instance_uid);
CREATE INDEX series_uid_alone ON series (series_instance_uid);
CREATE INDEX series_modality ON series (modality, study_key);
CREATE UNIQUE INDEX instance_uid ON instance (sop_instance_uid);
CREATE INDEX instance_series ON instance (series_key, sop_class_uid);
CREATE INDEX instance_key_set ON instance (key_set);
CREATE INDEX inconsistency_entity ON inconsistency (level, entity_key, name);
CREATE INDEX study_date ON study (study_date_day DESC, study_instance_uid);
CREATE INDEX series_study ON series (study_key, modality);
COMMIT;
